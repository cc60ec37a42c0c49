// One side of a comparison: a model with its settings, and its reply as it comes.
import { byId, h, setText } from "./dom.js";
import { HeatView } from "./heat_view.js";
import { LoadingWatch } from "./loading.js";
import { speedText, tokensText } from "./meters.js";
import { ModelChoice } from "./model_choice.js";
import { Reply } from "./reply.js";
import { chatRequest } from "./request.js";
import { postStream } from "./server.js";
import { SettingsForm } from "./settings_form.js";
import { TokenTexts } from "./token_texts.js";

const TOP_LOGPROBS = 5;
// What shows the difference between two models and not the luck of a draw.
export const DEFAULTS = { temperature: 0, max_completion_tokens: 256 };

export class Side {
  constructor(name, details) {
    this.name = name; // "left" or "right"
    this.models = new ModelChoice(byId(`${name}-model`));
    this.form = new SettingsForm(byId(`${name}-settings`), () => this.showOptions(), name);
    this.heat = new HeatView(details);
    this.facts = byId(`${name}-facts`);
    this.error = h("p", { class: "error", role: "alert", hidden: true });
    this.waiting = h("p", { class: "quiet", hidden: true });
    byId(`${name}-reply`).append(this.waiting, this.heat.element, this.error);
    this.form.show(DEFAULTS);
    this.showOptions();
    this.reset();
  }

  reset() {
    this.reply = new Reply();
    this.texts = new TokenTexts();
    this.hasLogprobs = false;
    this.isEnded = false;
    this.heat.clear();
    this.error.hidden = true;
  }

  showOptions() {
    const words = Object.entries(this.form.settings).map(
      ([name, value]) => `${name} ${JSON.stringify(value)}`,
    );
    setText(byId(`${this.name}-options`), words.join(", ") || "the server’s defaults");
  }

  // Reads the reply to a prompt; onGrow() is called for each part of it, and at its end. Returns an error
  // that is not shown if the server has no room for the model now, else null.
  async run(system, prompt, signal, onGrow) {
    this.reset();
    const body = this.request(system, prompt);
    const loading = new LoadingWatch(body.model, (isLoading) =>
      this.showWaiting(isLoading ? `Loading ${body.model} …` : "Waiting for the first token"),
    );
    this.showWaiting("Waiting for the first token");
    let error = null;
    try {
      for await (const chunk of postStream("/v1/chat/completions", body, signal)) {
        loading.stop();
        this.add(chunk);
        onGrow();
      }
    } catch (caught) {
      if (!signal.aborted) error = caught;
    }
    loading.stop();
    const hasRoom = error?.code !== "no_room_for_model";
    this.end(hasRoom ? error : null);
    onGrow();
    return hasRoom ? null : error;
  }

  request(system, prompt) {
    const messages = [{ role: "user", content: prompt }];
    const settings = { logprobs: true, top_logprobs: TOP_LOGPROBS, ...this.form.settings };
    return chatRequest(this.models.current, system, messages, settings);
  }

  end(error) {
    this.isEnded = true;
    this.showWaiting("");
    if (error) this.showError(error.message);
  }

  // Says that the reply comes after another one.
  showTurn() {
    this.isEnded = false;
    this.showWaiting("Waits for the other reply: the server has no room for both models at once");
  }

  showWaiting(text) {
    this.waiting.hidden = text === "";
    setText(this.waiting, text);
  }

  add(chunk) {
    this.showWaiting("");
    this.reply.add(chunk);
    const choice = chunk.choices?.[0];
    if (choice?.logprobs?.content) this.hasLogprobs = true;
    // With log-probabilities come all tokens, those of the reasoning and its marks too.
    if (this.hasLogprobs) this.texts.add(choice?.logprobs?.content ?? []);
    else
      this.texts.addText((choice?.delta?.reasoning_content ?? "") + (choice?.delta?.content ?? ""));
  }

  // Whether the model ended its reply: one that failed or was stopped may have gone on.
  get isComplete() {
    return this.isEnded && this.reply.finishReason !== null;
  }

  showError(message) {
    this.error.hidden = false;
    setText(this.error, message);
  }

  // range: of the word that differs, or null.
  show(range) {
    const label = `Reply of ${this.models.current}. Arrow keys move between its tokens`;
    this.heat.update(this.texts.tokens, range, label);
    setText(this.facts, this.factsText());
  }

  factsText() {
    const { reply, texts, isEnded } = this;
    const parts = [
      reply.nTokens > 0 && tokensText(reply.nTokens),
      reply.speed && speedText(reply.speed),
      isEnded && texts.perplexity && `perplexity ${texts.perplexity.toFixed(2)}`,
      reply.finishReason === "length" && "cut at the longest length",
    ];
    return parts.filter(Boolean).join(" · ");
  }
}
