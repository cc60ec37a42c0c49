// Model, system prompt and settings of the conversation that is shown, and those of new ones.
import { byId, setText } from "./dom.js";
import { keep, recall } from "./kept.js";
import { fetchModels, ModelChoice } from "./model_choice.js";
import { checkSettings } from "./settings.js";
import { SettingsForm } from "./settings_form.js";

export class OptionsPanel {
  // onChange(): the conversation has other options. onModels(): the list of models came.
  constructor({ onChange, onModels }) {
    this.onChange = onChange;
    this.onModels = onModels;
    this.conversation = null;
    this.models = new ModelChoice(byId("model"), (model) => this.change({ model }));
    const place = byId("settings-fields");
    this.form = new SettingsForm(place, (settings) => this.change({ settings }));
    byId("system").addEventListener("input", (event) => {
      this.conversation.system = event.target.value;
      this.onChange();
    });
  }

  load() {
    return fetchModels((models) => {
      this.models.setModels(models);
      this.onModels();
    });
  }

  // What is chosen holds for this conversation and for new ones; a system prompt only for its own.
  change(changed) {
    Object.assign(this.conversation, changed);
    keep("local", "defaults", JSON.stringify({ ...this.defaults, ...changed }));
    this.onChange();
  }

  get defaults() {
    try {
      const { model, settings } = JSON.parse(recall("local", "defaults") ?? "{}");
      const known = typeof model === "string" ? model : "";
      return { model: known, settings: checkSettings(settings ?? {}) };
    } catch {
      return { model: "", settings: {} }; // written by another version of this page
    }
  }

  show(conversation) {
    this.conversation = conversation;
    this.models.choose(conversation.model);
    this.form.show(conversation.settings);
    byId("system").value = conversation.system;
  }

  // Shows what another tab changed; what is being written stays as it is.
  refresh() {
    const { model, system, settings } = this.conversation;
    const isSame =
      (!model || model === this.models.current) &&
      system === byId("system").value &&
      JSON.stringify(settings) === JSON.stringify(this.form.settings);
    if (!isSame) this.show(this.conversation);
  }

  // Says on the button how many options are set: they are easily forgotten.
  showCount() {
    const { settings, system } = this.conversation;
    const n = Object.keys(settings).length + (system.trim() ? 1 : 0);
    setText(byId("settings-count"), n ? String(n) : "");
    byId("open-settings").setAttribute("aria-label", n ? `Settings, ${n} set` : "Settings");
  }
}
