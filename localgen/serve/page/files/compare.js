// The comparison: one prompt to two models or settings, side by side.
import { announce } from "./announcer.js";
import { connectDialogs } from "./dialogs.js";
import { firstDifference } from "./difference.js";
import { byId, setText } from "./dom.js";
import { drawIcons } from "./icons.js";
import { fetchModels } from "./model_choice.js";
import { Side } from "./side.js";
import { connectThemeSwitch } from "./theme_switch.js";
import { TokenDetails } from "./token_details.js";

class Comparison {
  constructor() {
    const details = new TokenDetails();
    this.left = new Side("left", details);
    this.right = new Side("right", details);
    this.controller = null; // while replies come
    this.frame = null;
  }

  start() {
    byId("prompt-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.controller) this.controller.abort();
      else this.run();
    });
    byId("prompt").addEventListener("keydown", (event) => this.onKey(event));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.controller?.abort();
    });
    fetchModels((models) => {
      this.left.models.setModels(models);
      this.right.models.setModels(models);
      this.right.models.choose((models[1] ?? models[0])?.id ?? "");
    });
  }

  onKey(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.controller) this.run();
  }

  async run() {
    const prompt = byId("prompt").value;
    if (!prompt.trim()) return;
    this.controller = new AbortController();
    const { signal } = this.controller;
    this.showRunning();
    announce("Waiting for both replies");
    const grow = () => {
      this.frame ??= requestAnimationFrame(() => this.show());
    };
    const system = byId("system").value;
    await Promise.all(
      [this.left, this.right].map((side) => side.run(system, prompt, signal, grow)),
    );
    this.controller = null;
    this.show();
    this.showRunning();
    announce(byId("verdict").textContent);
  }

  showRunning() {
    const isRunning = this.controller !== null;
    setText(byId("run"), isRunning ? "Stop" : "Compare");
    byId("sides").setAttribute("aria-busy", String(isRunning));
    byId("legend").hidden = false;
  }

  show() {
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.frame = null;
    const isEnded = this.left.isComplete && this.right.isComplete;
    const [left, right] = [this.left.texts.text, this.right.texts.text];
    const difference = firstDifference(left, right, isEnded);
    this.left.show(difference.left);
    this.right.show(difference.right);
    setText(byId("verdict"), verdict(difference, left, right));
  }
}

function verdict({ isSame, nSameWords, left, right }, leftText, rightText) {
  if (left === null) return isSame && leftText ? "Both replies are the same." : "";
  const word = (text, [start, end]) =>
    start === end ? "the end" : `“${text.slice(start, end).trim() || "white space"}”`;
  const same =
    nSameWords === 1 ? "The first word is the same" : `The first ${nSameWords} words are the same`;
  const before = nSameWords ? `${same}, then ` : "From the start: ";
  return `${before}${word(leftText, left)} on the left and ${word(rightText, right)} on the right.`;
}

drawIcons(document);
connectDialogs();
connectThemeSwitch();
new Comparison().start();
