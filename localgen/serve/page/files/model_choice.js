// The choice of a model, from those that the server serves.
import { askForKey, notify } from "./dialogs.js";
import { h } from "./dom.js";
import { loadModels } from "./models.js";

export class ModelChoice {
  // select: its node. onChoose(model): another one was chosen. onLoad(): the list of models came.
  constructor(select, { onChoose, onLoad }) {
    this.select = select;
    this.models = [];
    this.onLoad = onLoad;
    select.addEventListener("change", () => onChoose(select.value));
  }

  get current() {
    return this.select.value;
  }

  nCtx(model) {
    return this.models.find(({ id }) => id === model)?.nCtx ?? null;
  }

  // Shows a model as chosen; "" means the first one. A model that is not served is shown as such.
  choose(model) {
    const ids = this.models.map(({ id }) => id);
    const chosen = model || ids[0] || "";
    const shown = chosen && !ids.includes(chosen) ? [chosen, ...ids] : ids;
    this.select.replaceChildren(...shown.map((id) => h("option", { value: id }, this.label(id))));
    this.select.value = chosen;
  }

  label(id) {
    return this.models.length && !this.models.some((model) => model.id === id)
      ? `${id} (not served)`
      : id;
  }

  async load() {
    try {
      this.models = await loadModels();
      this.choose(this.current);
      this.onLoad();
    } catch (error) {
      if (error.status === 401 && (await askForKey(error.message))) await this.load();
      else
        notify(`The models cannot be listed. ${error.message}`, {
          label: "Retry",
          run: () => this.load(),
        });
    }
  }
}
