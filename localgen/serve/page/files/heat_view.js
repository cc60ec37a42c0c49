// Shows tokens as text that is the warmer the less probable they were, with one word marked.
import { h, setText } from "./dom.js";

const COLDEST = Math.log(0.01); // a probability of 1 % or less has the full colour

export class HeatView {
  // details: shows what is known about the token that has the focus or the pointer.
  constructor(details) {
    this.details = details;
    this.element = h("div", { class: "heat", dir: "auto", role: "group" });
    this.spans = [];
    this.tokens = [];
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    this.element.addEventListener("focusin", (event) => this.onEnter(event.target));
    this.element.addEventListener("pointerover", (event) => this.onEnter(event.target));
    this.element.addEventListener("focusout", () => details.hide());
    this.element.addEventListener("pointerleave", () => details.hide());
  }

  clear() {
    this.element.replaceChildren();
    this.spans = [];
    this.tokens = [];
  }

  // range: the [start, end) of the marked word in the whole text, or null.
  update(tokens, range, label) {
    this.tokens = tokens;
    this.element.setAttribute("aria-label", label);
    let at = 0;
    tokens.forEach((token, n) => {
      const span = this.spans[n] ?? this.addSpan(token, n);
      fill(span, token.text, range && [range[0] - at, range[1] - at]);
      at += token.text.length;
    });
    this.showEnd(range !== null && range[0] === range[1] && range[0] === at);
  }

  addSpan(token, n) {
    const span = h("span", { class: "token", tabindex: n === 0 ? "0" : "-1" });
    span.dataset.n = n;
    span.style.setProperty("--warmth", `${100 * warmthOf(token.logprob)}%`);
    this.element.insertBefore(span, this.end ?? null);
    this.spans.push(span);
    return span;
  }

  // Says that a text ends where the other one goes on.
  showEnd(isShown) {
    this.end?.remove();
    this.end = isShown ? h("mark", { class: "end" }, "ends here") : null;
    if (this.end) this.element.append(this.end);
  }

  onEnter(node) {
    const span = node.closest(".token");
    if (span) this.details.show(span, this.tokens[span.dataset.n]);
  }

  // One stop of the Tab key; arrow keys move between tokens.
  onKey(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const at = this.spans.indexOf(document.activeElement);
    const next = { Home: 0, End: this.spans.length - 1 }[event.key] ?? at + step;
    if (event.key === "Escape") this.details.hide();
    if (at === -1 || !this.spans[next]) return;
    event.preventDefault();
    this.spans[at].tabIndex = -1;
    this.spans[next].tabIndex = 0;
    this.spans[next].focus();
  }
}

// Writes a token's text, with the part that lies in a range of it marked.
function fill(span, text, range) {
  const [start, end] = range ? range.map((n) => Math.max(0, Math.min(n, text.length))) : [0, 0];
  const key = `${start} ${end} ${text.length}`;
  if (span.dataset.filled === key) return;
  span.dataset.filled = key;
  if (start === end) return setText(span, text);
  const mark = h("mark", {}, text.slice(start, end));
  span.replaceChildren(text.slice(0, start), mark, text.slice(end));
}

function warmthOf(logprob) {
  return logprob === null ? 0 : Math.min(Math.max(logprob, COLDEST) / COLDEST, 1);
}
