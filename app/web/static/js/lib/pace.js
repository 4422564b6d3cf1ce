// How long the rest of some work takes, by the pace at which its steps were seen to end.

export class Pace {
  /** @type {{done: number, at: number} | null} */
  first = null;
  /** @type {{done: number, at: number} | null} */
  last = null;

  /** So many steps are done now. */
  saw(done) {
    const now = { done, at: performance.now() };
    this.first ??= now;
    if (done !== this.last?.done) this.last = now;
  }

  /**
   * Milliseconds up to the last of `total` steps; `usual` ms a step until one was seen. Null: not known, as
   * when they are overdue by more than a step.
   */
  left(total, usual = null) {
    const seen = this.last.done - this.first.done;
    const pace = seen ? (this.last.at - this.first.at) / seen : usual;
    if (pace === null) return null;
    const left = pace * (total - this.last.done) - (performance.now() - this.last.at);
    return left < -pace ? null : Math.max(0, left);
  }
}
