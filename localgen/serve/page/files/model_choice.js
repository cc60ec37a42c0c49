// The choice of a model, from those that the server serves.
import { askForKey, notify } from "./dialogs.js";
import { h } from "./dom.js";
import { loadModels } from "./models.js";

export class ModelChoice {
  // select: its node. onChoose(model): a person chose another one.
  constructor(select, onChoose = () => {}) {
    this.select = select;
    this.models = [];
    select.addEventListener("change", () => onChoose(select.value));
  }

  get current() {
    return this.select.value;
  }

  nCtx(model) {
    return this.models.find(({ id }) => id === model)?.nCtx ?? null;
  }

  setModels(models) {
    this.models = models;
    this.choose(this.current);
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
    const isServed = !this.models.length || this.models.some((model) => model.id === id);
    return isServed ? id : `${id} (not served)`;
  }
}

// Gets the models; asks for the API key if the server wants one, and offers to retry.
export async function fetchModels(onModels) {
  try {
    onModels(await loadModels());
  } catch (error) {
    if (error.status === 401 && (await askForKey(error.message))) return fetchModels(onModels);
    const retry = { label: "Retry", run: () => fetchModels(onModels) };
    notify(`The models cannot be listed. ${error.message}`, retry);
  }
}
