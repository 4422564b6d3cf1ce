// Estimates how long the rest of some work takes from the pace of its steps.

export class Pace {
  /** @type {{done: number, at: number} | null} */
  first = null;
  /** @type {{done: number, at: number} | null} */
  last = null;

  saw(done) {
    const now = { done, at: performance.now() };
    this.first ??= now;
    if (done !== this.last?.done) this.last = now;
  }

  /** Milliseconds up to the last of `total` steps, at `usual` ms a step until one was seen; null: unknown, or overdue. */
  left(total, usual = null) {
    const seen = this.last.done - this.first.done;
    const pace = seen ? (this.last.at - this.first.at) / seen : usual;
    if (pace === null) return null;
    const left = pace * (total - this.last.done) - (performance.now() - this.last.at);
    return left < -pace ? null : Math.max(0, left);
  }
}
