// The box that messages are written in.
import { byId, ignoreRepeats } from "./dom.js";
import { icon } from "./icons.js";

export class Composer {
  // actions: {send(text), stop(), editLast()}. send() and editLast() return whether they did.
  constructor(actions) {
    this.actions = actions;
    this.field = byId("message");
    this.button = byId("send");
    this.isRunning = false;
    ignoreRepeats(this.button);
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.isRunning) actions.stop();
      else this.send();
    });
    this.field.addEventListener("keydown", (event) => this.onKey(event));
    this.field.addEventListener("input", () => this.fit());
  }

  onKey(event) {
    if (event.isComposing) return; // Enter ends a word of an input method
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (!this.isRunning) this.send();
    }
    if (event.key === "ArrowUp" && this.field.value === "" && this.actions.editLast())
      event.preventDefault();
  }

  send() {
    const text = this.field.value;
    if (text.trim() && this.actions.send(text)) this.write("");
  }

  write(text) {
    this.field.value = text;
    this.fit();
  }

  // Grows with its text, up to the height that the style allows.
  fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }

  show(isRunning) {
    this.isRunning = isRunning;
    const label = isRunning ? "Stop (Esc)" : "Send (Enter)";
    if (this.button.title === label) return;
    this.button.title = label;
    this.button.setAttribute("aria-label", isRunning ? "Stop the reply" : "Send the message");
    this.button.replaceChildren(icon(isRunning ? "stop" : "send"));
  }

  focus() {
    this.field.focus();
  }
}
