// Brush, eraser and lasso: pointer and keys draw marks.

const MOST_SIZE = 400;

/** `onStep()` after every change of the marks, `onMove(place)` with the brush. */
export class Tools {
  tool = "brush";
  size = 24;
  action = null;
  hands = {
    onPoint: (place) => this.place(place && this.view.toImage(place)),
    stroke: {
      begin: (place, event) => this.begin(this.view.toImage(place), event),
      move: (places) => places.forEach((place) => this.draw(this.view.toImage(place))),
      end: () => this.finish(),
      cancel: () => this.giveUp(),
    },
  };

  constructor({ onStep, onMove }) {
    this.onStep = onStep;
    this.onMove = onMove;
  }

  connect(view) {
    this.view = view;
    for (const canvas of view.canvases) {
      canvas.addEventListener("keydown", (event) => view.item && this.key(event));
    }
    this.set({});
  }

  get isDrawing() {
    return this.action !== null;
  }

  set({ tool = this.tool, size = this.size }) {
    this.tool = tool;
    this.size = Math.min(Math.max(Math.round(size), 1), MOST_SIZE);
    this.view.set({ brush: tool === "lasso" ? 1 : this.size });
  }

  place(cursor) {
    this.view.cursor = cursor;
    this.view.draw();
    this.onMove(cursor);
  }

  begin(at, event) {
    const { mask } = this.view.item;
    const value = this.tool === "eraser" || event.altKey ? 0 : 1;
    mask.begin();
    if (this.tool === "lasso") {
      this.action = { kind: "lasso", value, points: [at] };
      this.view.outline = this.action.points;
    } else {
      this.action = { kind: "brush", value, last: at };
      mask.line(at, at, this.size, value);
    }
    this.place(at);
    return true;
  }

  draw(at) {
    const { action } = this;
    if (action?.kind === "lasso") action.points.push(at);
    if (action?.kind !== "brush") return;
    this.view.item.mask.line(action.last, at, this.size, action.value);
    action.last = at;
  }

  /** End a stroke as if the pointer had gone up, so that it is not lost. */
  finish() {
    if (!this.isDrawing) return;
    const { action, view } = this;
    if (action.kind === "lasso") view.item.mask.polygon(action.points, action.value);
    if (this.ended()) this.onStep();
    view.draw();
  }

  /** Drop a stroke without a trace: a second finger has come down. */
  giveUp() {
    if (!this.isDrawing || !this.ended()) return;
    const { mask } = this.view.item;
    mask.undo();
    mask.future.pop();
  }

  /** Whether the stroke has changed anything. */
  ended() {
    this.action = null;
    this.view.outline = null;
    return this.view.item.mask.end();
  }

  /** With a pane in focus, the arrow keys move the brush and Enter draws. */
  key(event) {
    const { mask } = this.view.item;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const at = this.view.cursor ?? { x: mask.width / 2, y: mask.height / 2 };
    if (event.key in moves) {
      const step = event.shiftKey ? 1 : Math.max(this.size / 2, 1);
      const [dx, dy] = moves[event.key];
      const within = (value, most) => Math.min(Math.max(value, 0), most);
      this.place({ x: within(at.x + dx * step, mask.width), y: within(at.y + dy * step, mask.height) });
    } else if (event.key === "Enter" && this.tool !== "lasso") {
      mask.begin();
      mask.line(at, at, this.size, this.tool === "eraser" ? 0 : 1);
      if (mask.end()) this.onStep();
      this.place(at);
    } else return;
    event.preventDefault();
  }
}
