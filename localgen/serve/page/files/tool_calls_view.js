// Shows the calls that a reply makes, and takes their results from the person in front of the page.
import { withoutControls, withVisibleControls } from "./controls.js";
import { h, setText } from "./dom.js";
import { indented } from "./json_text.js";

export class ToolCallsView {
  // onAnswer([{id, content}]): the person gave the result of each call.
  constructor(onAnswer) {
    this.onAnswer = onAnswer;
    this.element = h("div", { class: "calls", hidden: true });
    this.form = null;
  }

  update(calls, isOpen) {
    this.element.hidden = calls.length === 0;
    calls.forEach((call, n) => this.show(call, this.cards[n]));
    if (isOpen && calls.length && !this.form) this.ask(calls);
    if (!isOpen && this.form) {
      this.form.remove();
      this.form = null;
    }
  }

  get cards() {
    return this.element.querySelectorAll(".call");
  }

  show({ name, arguments: given }, card) {
    if (!card) {
      card = h(
        "div",
        { class: "call" },
        h("p", {}, "Calls ", h("code")),
        h("pre", { dir: "ltr", tabindex: "0", role: "region", "aria-label": "Arguments" }),
      );
      this.element.append(card);
    }
    setText(card.querySelector("code"), withoutControls(name));
    setText(card.querySelector("pre"), withVisibleControls(indented(given)));
  }

  ask(calls) {
    const fields = calls.map(({ name }) =>
      h("textarea", {
        rows: "2",
        "aria-label": `Result of ${name}`,
        placeholder: `Result of ${name}`,
      }),
    );
    const answer = (event) => {
      event.preventDefault();
      this.onAnswer(calls.map(({ id }, n) => ({ id, content: fields[n].value })));
    };
    this.form = h(
      "form",
      { class: "results", onsubmit: answer },
      ...fields,
      h("button", { class: "primary" }, calls.length > 1 ? "Send results" : "Send result"),
    );
    this.element.append(this.form);
  }
}

