// Looks whether a model is being loaded, for a reply that has to wait for it.
import { loadModels } from "./models.js";

const LOOK_SECONDS = 1;

export class LoadingWatch {
  // onChange(isLoading): the load began or ended.
  constructor(model, onChange) {
    this.model = model;
    this.onChange = onChange;
    this.isLoading = false;
    this.isStopped = false;
    this.timer = null;
    this.lookSoon();
  }

  lookSoon() {
    this.timer = setTimeout(() => this.look(), LOOK_SECONDS * 1000);
  }

  async look() {
    const models = await loadModels().catch(() => []); // the reply itself says what is wrong
    if (this.isStopped) return;
    this.set(models.some(({ id, isLoading }) => id === this.model && isLoading));
    this.lookSoon();
  }

  set(isLoading) {
    if (isLoading === this.isLoading) return;
    this.isLoading = isLoading;
    this.onChange(isLoading);
  }

  stop() {
    this.isStopped = true;
    clearTimeout(this.timer);
    this.set(false);
  }
}
