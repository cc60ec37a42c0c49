// The box in which a message is changed, in the message's place.
import { h, setText } from "./dom.js";

export class MessageEditor {
  // onSend(text) returns whether it was sent. onClose(): the box is no longer needed.
  constructor(text, { onSend, onClose }) {
    this.onSend = onSend;
    this.onClose = onClose;
    this.field = h("textarea", { "aria-label": "Your message, changed", rows: "3", dir: "auto" });
    this.field.value = text;
    this.field.addEventListener("keydown", (event) => this.onKey(event));
    this.button = h("button", { class: "primary" }, "Send as a new version");
    this.hint = h("span", { class: "hint", role: "status" });
    const cancel = h("button", { type: "button", onclick: onClose }, "Cancel");
    this.element = h(
      "form",
      { class: "edit" },
      this.field,
      h("div", { class: "row" }, this.hint, cancel, this.button),
    );
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
  }

  // isFree: no reply of the conversation is on its way.
  update(isFree) {
    this.isFree = isFree;
    this.button.disabled = !isFree;
    setText(this.hint, isFree ? "" : "A reply is on its way: this can be sent after it.");
  }

  send() {
    const text = this.field.value;
    if (text.trim() && this.isFree && this.onSend(text)) this.onClose();
  }

  onKey(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.send();
    }
    if (event.key === "Escape") {
      event.stopPropagation();
      this.onClose();
    }
  }
}
