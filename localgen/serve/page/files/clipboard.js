// Copies text, also where the browser gives a page from another machine no clipboard.
import { h, setText } from "./dom.js";
import { icon } from "./icons.js";

export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = h("textarea", { class: "hidden", "aria-hidden": "true" });
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (!isCopied) throw new Error("the browser refused");
}

// A button that copies what getText() returns, and says so for a moment.
export function copyButton(label, getText) {
  const word = h("span", { class: "button-word" }, "Copy");
  const button = h(
    "button",
    { type: "button", class: "quiet-button copy", "aria-label": label },
    icon("copy"),
    word,
  );
  const show = (name, text) => {
    button.firstChild.replaceWith(icon(name));
    setText(word, text);
  };
  button.addEventListener("click", async () => {
    try {
      await copyText(getText());
      show("done", "Copied");
    } catch {
      show("copy", "Not copied");
    }
    setTimeout(() => show("copy", "Copy"), 1500);
  });
  return button;
}
