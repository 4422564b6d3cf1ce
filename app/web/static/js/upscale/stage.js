// One result on the screen: viewer and panel together. Loaded when the first image is on its way.

import { getBlob } from "../lib/api.js";
import { $ } from "../lib/dom.js";
import { size } from "../lib/format.js";
import { connect } from "./controls.js";
import { decodeResult } from "./decode.js";
import { connectDownloads, refreshCommand } from "./downloads.js";
import { Panel } from "./panel.js";
import { Viewer } from "./viewer.js";
import { done, pixel } from "./words.js";

export class Stage {
  /** onUseNext(alpha) when an α is to be that of the next images. */
  constructor({ onUseNext }) {
    this.canvas = $("#canvas");
    this.shown = null; // {result, name, image, trust, isOwn, background}
    this.turn = 0;
    this.viewer = new Viewer(this.canvas, { onView: () => this.showZoom() });
    this.panel = new Panel({ onCode: (code) => this.setCode(code), onUseNext });
    this.resetControls = connect(this.viewer, {
      onRead: (found) => this.read(found),
      describe: (found) => this.describe(found),
    });
    connectDownloads(() => this.current);
  }

  /** What is shown, at the α on the screen. */
  get current() {
    return { ...this.shown, alpha: this.panel.alpha, isMoved: this.panel.isMoved };
  }

  /**
   * Show a result; its input `file` may be null, `settings` are those it was sent with. False if another one was asked for meanwhile.
   *
   * Throws an ApiError if the files cannot be had, an Error if they cannot be shown.
   */
  async open({ result, name, file, settings }) {
    const turn = ++this.turn;
    $("#result").hidden = false;
    $("#result").setAttribute("aria-busy", "true");
    $("#busy").hidden = false;
    try {
      const [image, trust] = await Promise.all([
        getBlob(result.links.image),
        getBlob(result.links.trust),
      ]);
      const [decoded, before] = await Promise.all([
        decodeResult(image, trust),
        file ? createImageBitmap(file) : null,
      ]);
      if (turn !== this.turn) return false;
      const background = settings?.background ?? null;
      this.shown = { result, name, image, trust, isOwn: Boolean(file), background };
      this.show(decoded, before);
      return true;
    } finally {
      if (turn === this.turn) {
        $("#busy").hidden = true;
        $("#result").removeAttribute("aria-busy");
      }
    }
  }

  /** Nothing is to be shown: what is on its way is not opened any more. */
  leave() {
    this.turn += 1;
    this.shown = null;
  }

  show(decoded, before) {
    const { result, name } = this.shown;
    const { width, height } = result;
    $("#result-title").textContent = name;
    $("#result-size").textContent = `${size(width, height)} px, ${result.upscaler} ×${result.scale}`;
    $("#frame").style.setProperty("--aspect", String(width / height));
    const word = done(result);
    this.canvas.setAttribute("aria-label", `${word[0].toUpperCase()}${word.slice(1)} image of ${name}`);
    $("#divider .right").textContent = word;
    this.viewer.show({ width, height, before, ...decoded });
    this.resetControls(before !== null);
    this.panel.show(result, decoded.counts);
    refreshCommand(() => this.current);
    this.read(null);
    this.canvas.dataset.shown = result.id;
  }

  showZoom() {
    const zoom = (100 * this.viewer.view.scale) / this.viewer.density;
    $("#zoom-value").textContent = `${Number(zoom.toPrecision(3))} %`;
  }

  setCode(code) {
    this.viewer.setLimit(code);
  }

  read(found) {
    $("#readout").textContent = this.describe(found);
  }

  describe(found) {
    if (!this.shown) return "";
    return pixel(found, {
      alpha: this.panel.alpha,
      limit: this.panel.code,
      levelOf: (code) => this.panel.levelOf(code),
    });
  }
}
