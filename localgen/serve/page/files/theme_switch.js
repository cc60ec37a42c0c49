// Switches between the system's scheme, light and dark. theme.js reads the choice at the next start.
import { byId } from "./dom.js";
import { announce } from "./announcer.js";
import { keep } from "./kept.js";

const THEMES = ["auto", "light", "dark"];
const LABELS = { auto: "as the system", light: "light", dark: "dark" };

export function connectThemeSwitch() {
  const button = byId("theme");
  const show = (theme) => {
    button.title = `Colours: ${LABELS[theme]}`;
    button.setAttribute("aria-label", button.title);
  };
  const current = () => document.documentElement.dataset.theme ?? "auto";
  show(current());
  button.addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length];
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    keep("local", "theme", theme);
    show(theme);
    announce(button.title);
  });
}
