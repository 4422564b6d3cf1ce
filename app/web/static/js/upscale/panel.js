// The panel beside the viewer: α and what follows from it, the promise, the warnings.

import { $, announce, h, replace, svg } from "../lib/dom.js";
import { count, duration, level, percent, size, time } from "../lib/format.js";
import { alphaOf, axis, codeAt, codeOf, placeOf } from "./levels.js";
import * as words from "./words.js";

const PLACES = 1000; // of the slider
const CURVE_POINTS = 160;

export class Panel {
  /** onCode(code) after α has changed; onUseNext(alpha) to choose it for the next images. */
  constructor({ onCode, onUseNext }) {
    this.onCode = onCode;
    this.onUseNext = onUseNext;
    this.slider = $("#alpha-slider");
    this.input = $("#alpha");
    this.slider.addEventListener("input", () => {
      this.setCode(codeAt(this.axis, Number(this.slider.value) / PLACES), { fromSlider: true });
    });
    this.input.addEventListener("change", () => this.typed());
    this.input.addEventListener("keydown", (event) => event.key === "Enter" && this.typed());
  }

  /** result: the document. counts: how many pixels have a code of at most i. */
  show(result, counts) {
    this.result = result;
    this.counts = counts;
    this.bound = result.guarantee.bound;
    this.served = codeOf(result.alpha, this.bound);
    this.axis = axis(counts, this.served);
    $("#axis-low").textContent = words.shown(alphaOf(this.axis.low, this.bound));
    $("#axis-high").textContent = words.shown(alphaOf(this.axis.high, this.bound));
    this.drawCurve();
    showAlerts(result);
    showTypicality(result);
    showFacts(result);
    this.setCode(this.served);
  }

  get alpha() {
    return alphaOf(this.code, this.bound);
  }

  get share() {
    return this.counts[this.code] / this.counts[65535];
  }

  get isMoved() {
    return this.code !== this.served;
  }

  /** The smallest α at which a code is trusted, or null. */
  levelOf(code) {
    return code > 65534 ? null : alphaOf(code, this.bound);
  }

  setCode(code, { fromSlider = false } = {}) {
    const moved = this.promised !== undefined ? this.isMoved : null;
    this.code = code;
    const share = percent(this.share);
    $("#share").textContent = share;
    $("#share").classList.toggle("moved", this.isMoved);
    $("#share-label").textContent = this.isMoved
      ? "of the image would be marked, without a promise"
      : "of the image is trusted";
    if (document.activeElement !== this.input || fromSlider) {
      this.input.value = words.shown(this.alpha);
    }
    this.input.title = `exactly ${this.alpha}`;
    const place = placeOf(this.axis, code);
    if (!fromSlider) this.slider.value = Math.round(PLACES * place);
    this.slider.setAttribute("aria-valuetext", words.sliderValue(this.alpha, this.share, this.isMoved));
    this.mark?.setAttribute("x1", place);
    this.mark?.setAttribute("x2", place);
    const when = this.isMoved ? ", chosen after looking" : "";
    $("#downloads-alpha").textContent = `Mask and overlay at α = ${words.shown(this.alpha)}${when}.`;
    // The promise is rebuilt when it changes, not at every step of the slider.
    if (moved !== this.isMoved || this.promised !== this.result) this.showPromise();
    else if (this.isMoved) this.movedTo.textContent = words.shown(this.alpha);
    this.onCode(code);
  }

  typed() {
    const value = Number(this.input.value.trim().replace(",", "."));
    const isNumber = this.input.value.trim() !== "" && Number.isFinite(value) && value >= 0;
    if (isNumber) this.setCode(codeOf(value, this.bound));
    else announce(`α must be a number of at least 0; it stays ${words.shown(this.alpha)}.`);
    this.input.value = words.shown(this.alpha);
  }

  /** The share that is trusted for every α, above the slider and on its axis. */
  drawCurve() {
    const total = this.counts[65535];
    const points = [];
    for (let i = 0; i <= CURVE_POINTS; i += 1) {
      const place = i / CURVE_POINTS;
      const share = this.counts[codeAt(this.axis, place)] / total;
      points.push(`${place.toFixed(4)} ${(1 - share).toFixed(4)}`);
    }
    const line = `M${points.join("L")}`;
    const served = placeOf(this.axis, this.served);
    this.mark = svg("line", { class: "now", x1: 0, x2: 0, y1: 0, y2: 1 });
    replace(
      $("#curve"),
      svg(
        "svg",
        { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("path", { class: "area", d: `${line}L1 1L0 1Z` }),
        svg("path", { class: "line", d: line }),
        svg("line", { class: "served", x1: served, x2: served, y1: 0, y2: 1 }),
        this.mark,
      ),
    );
  }

  showPromise() {
    const { guarantee, alpha } = this.result;
    this.promised = this.result;
    this.movedTo = h("span", {}, words.shown(this.alpha));
    replace(
      $("#promise"),
      h("h3", { id: "promise-title" }, "The promise"),
      this.isMoved && this.movedNotice(alpha),
      h("p", { class: "plain" }, words.promise(this.result)),
      h("p", { class: "hint" }, words.sizeOfError(this.result)),
      conditions(guarantee),
    );
  }

  /** Exploring is fine, believing the promise for the explored α is not. */
  movedNotice(alpha) {
    return h(
      "div",
      { class: "callout untrust", id: "moved" },
      h("strong", {}, "No promise for this α"),
      h(
        "p",
        {},
        "An α chosen after looking voids it. You are exploring α = ",
        this.movedTo,
        `; the promise below is for α = ${words.shown(alpha)}, which was chosen before.`,
      ),
      h(
        "div",
        { class: "button-row" },
        h(
          "button",
          { type: "button", class: "small", id: "back", onclick: () => this.back() },
          `Back to ${words.shown(alpha)}`,
        ),
        h(
          "button",
          { type: "button", class: "small", onclick: () => this.onUseNext(this.alpha) },
          "Use it for the next images",
        ),
      ),
    );
  }

  back() {
    this.setCode(this.served);
    this.slider.focus();
  }
}

function conditions(guarantee) {
  return h(
    "details",
    { class: "conditions" },
    h("summary", {}, "Conditions and what voids it"),
    h("p", {}, guarantee.statement),
    h("p", {}, words.APPLICABILITY[guarantee.applicability]),
    h("p", {}, "The promise is void with:"),
    h("ul", {}, guarantee.voids.map((line) => h("li", {}, line))),
    guarantee.lab_psnr_lower_bound_db !== null &&
      h("p", {}, `PSNR in CIELAB inside the mask: at least ${level(guarantee.lab_psnr_lower_bound_db)} dB.`),
  );
}

/** Everything that the service warns of, in one place that cannot be missed. */
function showAlerts(result) {
  const { lines, grave } = words.alertsOf(result);
  replace(
    $("#alerts"),
    lines.length > 0 &&
      h(
        "div",
        { class: `callout ${grave ? "bad" : "warn"}`, role: "alert" },
        h("strong", {}, "Read this first"),
        lines.map((line) => h("p", {}, line)),
      ),
  );
}

function showTypicality({ typicality }) {
  const needle = h("i");
  needle.style.left = `${100 * typicality}%`;
  replace(
    $("#typicality"),
    h("h3", { id: "typicality-title" }, "Typicality"),
    h("p", {}, h("strong", {}, level(Number(typicality.toPrecision(2)))), " — ", words.typicality(typicality)),
    h("div", { class: "meter", "aria-hidden": "true" }, needle),
    h(
      "p",
      { class: "hint" },
      "Share of calibration images that are at least as unusual. Below 0.02 the service warns.",
    ),
  );
}

function showFacts(result) {
  const { guarantee } = result;
  const facts = [
    ["Upscaler", `${result.upscaler}, ×${result.scale}`],
    ["Size", `${size(result.width, result.height)} px`],
    ["α", String(result.alpha)],
    ["Threshold t_α", String(result.threshold)],
    ["Samples M", count(result.samples)],
    ["Seed", String(result.seed)],
    ["Prediction", result.prediction],
    ["Metric", `${guarantee.metric}${guarantee.labels ? `, labels: ${guarantee.labels}` : ""}, bound B = ${guarantee.bound}`],
    ["Kind of image", result.group ?? "any"],
    ["Calibration", `${result.calibration}, ${count(guarantee.n)} pairs`],
    ["Time", duration(Object.values(result.timings_ms).reduce((sum, ms) => sum + ms, 0))],
    ["Result", result.id],
    ["Opened", time(new Date().toISOString())],
  ];
  replace($("#facts"), facts.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
}
