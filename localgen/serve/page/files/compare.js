// The comparison: one prompt to two models or settings, side by side.
import { announce } from "./announcer.js";
import { withoutControls } from "./controls.js";
import { connectDialogs } from "./dialogs.js";
import { firstDifference } from "./difference.js";
import { byId, ignoreRepeats, setText } from "./dom.js";
import { drawIcons } from "./icons.js";
import { fetchModels } from "./model_choice.js";
import { Pacer } from "./pacer.js";
import { Side } from "./side.js";
import { connectThemeSwitch } from "./theme_switch.js";
import { TokenDetails } from "./token_details.js";

const MAX_WORD = 60; // characters of a word in a sentence
const RETRY_SECONDS = 0.5;
const MAX_TRIES = 20;

class Comparison {
  constructor() {
    const details = new TokenDetails();
    this.left = new Side("left", details);
    this.right = new Side("right", details);
    this.controller = null; // while replies come
    this.pacer = new Pacer(() => this.show());
  }

  start() {
    ignoreRepeats(byId("run"));
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
    const grow = () => this.pacer.request();
    await this.runSides((side) => side.run(byId("system").value, prompt, signal, grow), signal);
    this.controller = null;
    this.pacer.run();
    this.showRunning();
    announce(byId("verdict").textContent);
  }

  // Both at once, or one after the other where the server has no room for both models.
  async runSides(run, signal) {
    const late = [];
    const runOrWait = async (side) => {
      if ((await run(side)) === null) return;
      late.push(side);
      side.showTurn();
      announce(`The reply on the ${side.name} waits for the other one`);
    };
    await Promise.all([this.left, this.right].map(runOrWait));
    for (const side of late) await retry(run, side, signal);
  }

  showRunning() {
    const isRunning = this.controller !== null;
    setText(byId("run"), isRunning ? "Stop" : "Compare");
    byId("sides").setAttribute("aria-busy", String(isRunning));
    byId("legend").hidden = false;
  }

  show() {
    const isEnded = this.left.isComplete && this.right.isComplete;
    const [left, right] = [this.left.texts.text, this.right.texts.text];
    const difference = firstDifference(left, right, isEnded);
    this.left.show(difference.left);
    this.right.show(difference.right);
    setText(byId("verdict"), verdict(difference, left, right));
  }
}

// Tries until the server has room: it may take a moment to be done with the other reply.
async function retry(run, side, signal) {
  for (let n = 1; !signal.aborted; n += 1) {
    const error = await run(side);
    if (error === null) return;
    if (n === MAX_TRIES) return side.end(error);
    side.showTurn();
    await new Promise((resolve) => setTimeout(resolve, 1000 * RETRY_SECONDS));
  }
  side.end(null);
}

function verdict({ isSame, nSameWords, left, right }, leftText, rightText) {
  if (left === null) return isSame && leftText ? "Both replies are the same." : "";
  const word = (text, [start, end]) => {
    const found = withoutControls(text.slice(start, end).trim());
    const short = found.length > MAX_WORD ? `${found.slice(0, MAX_WORD - 1)}…` : found;
    return start === end ? "the end" : `“${short || "white space"}”`;
  };
  const same =
    nSameWords === 1 ? "The first word is the same" : `The first ${nSameWords} words are the same`;
  const before = nSameWords ? `${same}, then ` : "From the start: ";
  return `${before}${word(leftText, left)} on the left and ${word(rightText, right)} on the right.`;
}

drawIcons(document);
connectDialogs();
connectThemeSwitch();
new Comparison().start();
