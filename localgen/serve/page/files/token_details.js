// What is known about one token: its probability, and the most probable ones in its place.
import { byId, h } from "./dom.js";

const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };

export class TokenDetails {
  constructor() {
    this.element = byId("token-details");
  }

  show(span, { text, logprob, alternatives }) {
    if (logprob === null) return this.hide();
    this.hide();
    this.span = span;
    span.setAttribute("aria-describedby", this.element.id);
    const rows = alternatives.map((each) => row(each, each.text === text));
    const own = h(
      "p",
      {},
      h("strong", { dir: "auto" }, shown(text)),
      ` ${percent(logprob)}`,
      h("span", {}, ` log-probability ${logprob.toFixed(3)}`),
    );
    this.element.replaceChildren(own, h("table", {}, h("tbody", {}, ...rows)));
    this.element.hidden = false;
    this.place(span.getClientRects()[0]);
  }

  hide() {
    this.span?.removeAttribute("aria-describedby");
    this.element.hidden = true;
  }

  // Below the token, or above it where there is no space.
  place(box) {
    if (!box) return; // a token without a text
    const { offsetWidth: width, offsetHeight: height, style } = this.element;
    const left = Math.min(box.left, document.documentElement.clientWidth - width - 8);
    const isBelow = box.bottom + height + 8 < window.innerHeight;
    style.left = `${Math.max(left, 8)}px`;
    style.top = `${isBelow ? box.bottom + 6 : Math.max(box.top - height - 6, 8)}px`;
  }
}

function row({ text, logprob }, isChosen) {
  const bar = h("span", { class: "share" });
  bar.style.width = `${100 * Math.exp(logprob)}%`;
  return h(
    "tr",
    { class: isChosen && "chosen" },
    h("th", { scope: "row" }, shown(text)),
    h("td", {}, percent(logprob)),
    h("td", { class: "bar" }, bar),
  );
}

function percent(logprob) {
  const share = 100 * Math.exp(logprob);
  return share < 0.1 ? "< 0.1 %" : `${share.toFixed(1)} %`;
}

// White space that can be seen.
function shown(text) {
  return text.replace(/[ \n\t\r]/g, (character) => SIGNS[character]) || "part of a character";
}
