// Brush, eraser and lasso: pointers and keys become marks, or move the picture.

const WHEEL_STEP = 1.0015;

/** Drawing on the panes of a view. `onStep()` is called after every change of the marks. */
export class Tools {
  constructor(view, { onStep, onMove = () => {} }) {
    this.view = view;
    this.onStep = onStep;
    this.onMove = onMove;
    this.tool = "brush";
    this.size = 24;
    this.pointers = new Map();
    this.action = null;
    for (const { canvas } of view.panes) this.listen(canvas);
  }

  /** Whether a stroke is being drawn just now. */
  get isDrawing() {
    return this.action?.kind === "brush" || this.action?.kind === "lasso";
  }

  setTool(tool) {
    this.tool = tool;
    this.showBrush();
  }

  setSize(size) {
    this.size = Math.min(Math.max(Math.round(size), 1), 400);
    this.showBrush();
    return this.size;
  }

  showBrush() {
    this.view.brush = this.tool === "lasso" ? 1 : this.size;
    this.view.draw();
  }

  listen(canvas) {
    const handlers = {
      pointerdown: this.down,
      pointermove: this.move,
      pointerup: this.up,
      pointercancel: this.up,
    };
    for (const [name, handler] of Object.entries(handlers)) {
      canvas.addEventListener(name, (event) => this.view.item && handler.call(this, event, canvas));
    }
    canvas.addEventListener("pointerleave", () => {
      if (!this.action) this.place(null);
    });
    canvas.addEventListener("wheel", (event) => this.view.item && this.wheel(event, canvas), {
      passive: false,
    });
    canvas.addEventListener("keydown", (event) => this.view.item && this.key(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  place(cursor) {
    this.view.cursor = cursor;
    this.view.draw();
    this.onMove(cursor);
  }

  down(event, canvas) {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const place = placeOf(event, canvas);
    this.pointers.set(event.pointerId, place);
    if (this.pointers.size === 2) {
      this.giveUp();
      this.action = { kind: "pinch" };
      return;
    }
    if (this.pointers.size > 2) return;
    if (event.button === 1 || event.button === 2 || event.shiftKey) {
      this.action = { kind: "pan" };
      return;
    }
    const at = this.view.toImage(place);
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
  }

  move(event, canvas) {
    const place = placeOf(event, canvas);
    const before = this.pointers.get(event.pointerId);
    const at = this.view.toImage(place);
    if (this.action?.kind === "pinch") this.pinch(event.pointerId, place);
    else if (this.action?.kind === "pan" && before) this.view.panBy(place.x - before.x, place.y - before.y);
    else if (this.action && before) {
      // Fast pens and mice report several places at once.
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) this.draw(this.view.toImage(placeOf(one, canvas)));
    }
    if (before) this.pointers.set(event.pointerId, place);
    this.place(at);
  }

  draw(at) {
    const { action } = this;
    if (action.kind === "lasso") action.points.push(at);
    if (action.kind !== "brush") return;
    this.view.item.mask.line(action.last, at, this.size, action.value);
    action.last = at;
  }

  pinch(id, place) {
    if (!this.pointers.has(id) || this.pointers.size < 2) return;
    const other = [...this.pointers].find(([one]) => one !== id)[1];
    const was = this.pointers.get(id);
    const middle = (p) => ({ x: (p.x + other.x) / 2, y: (p.y + other.y) / 2 });
    const spread = (p) => Math.hypot(p.x - other.x, p.y - other.y) || 1;
    const [from, to] = [middle(was), middle(place)];
    this.view.panBy(to.x - from.x, to.y - from.y);
    this.view.zoomBy(spread(place) / spread(was), to);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (event.type === "pointercancel" && this.isDrawing) this.giveUp();
    if (this.isDrawing) this.finish();
    else if (this.action?.kind !== "pinch" || !this.pointers.size) this.action = null;
  }

  /** End a stroke as if the pointer had gone up, so that nothing that follows loses it. */
  finish() {
    if (!this.isDrawing) return;
    const { action } = this;
    this.action = null;
    this.view.outline = null;
    const { mask } = this.view.item;
    if (action.kind === "lasso") mask.polygon(action.points, action.value);
    if (mask.end()) this.onStep();
    this.view.draw();
  }

  /** Leave a step that has begun, without a trace: a second finger has come down. */
  giveUp() {
    this.view.outline = null;
    if (this.action?.kind === "brush" || this.action?.kind === "lasso") this.undoStep(this.view.item.mask);
    this.action = null;
  }

  undoStep(mask) {
    if (mask.end()) {
      mask.undo();
      mask.future.pop();
    }
  }

  wheel(event, canvas) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 33 : 1;
    this.view.zoomBy(WHEEL_STEP ** (-event.deltaY * lines), placeOf(event, canvas));
  }

  /** On a pane that has the focus the arrow keys move the brush, and Enter draws where it is. */
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

function placeOf(event, canvas) {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}
