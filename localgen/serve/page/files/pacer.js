// Shows what grows at most once a frame, and leaves three quarters of the time for what people do.

const REST = 3; // times as long as it took to show
const MAX_REST = 1000; // milliseconds

export class Pacer {
  constructor(show) {
    this.show = show;
    this.timer = null;
    this.frame = null;
    this.readyAt = 0;
  }

  // Shows it soon.
  request() {
    if (this.timer !== null || this.frame !== null) return;
    const rest = Math.min(this.readyAt - performance.now(), MAX_REST);
    if (rest > 0) this.timer = setTimeout(() => this.run(), rest);
    else this.frame = requestAnimationFrame(() => this.run());
  }

  run() {
    this.cancel();
    const start = performance.now();
    this.show();
    const end = performance.now();
    this.readyAt = end + REST * (end - start);
  }

  cancel() {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    this.timer = this.frame = null;
  }
}
