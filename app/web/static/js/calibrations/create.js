// A new calibration: images are gathered and checked here, settings chosen, then all is sent.

import { upload } from "../lib/api.js";
import { $, $$, h, replace } from "../lib/dom.js";
import { bytes, count, level } from "../lib/format.js";
import { Gathered, dropZone, summary } from "./gather.js";
import { problem } from "./job.js";
import { minimalAlpha, minimalCount, sentName } from "./pairing.js";
import * as service from "./service.js";
import { boundOf, configOf, settingsFields } from "./settings.js";
import { pipelineWords } from "./words.js";

/** A file that misses the zone must not replace the page, and the form with it. */
function keepPage(event) {
  if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
}

/** Fill the view with the form; with ?extend=ID it adds pairs to a calibration. */
export async function show(root, query) {
  const parent = query.has("extend") ? await service.detail(query.get("extend")) : null;
  const upscalers = await service.upscalers();
  const heading = parent ? `More pairs for ${service.title(parent)}` : "New calibration";
  document.title = `${heading} · Trustscale`;
  const gathered = new Gathered();
  const form = h("form", { class: "stack", novalidate: true });
  const place = {
    images: h("div", { class: "stack" }),
    verdict: h("div", { class: "stack", "aria-live": "polite" }),
    sending: h("div", { class: "stack" }),
  };
  const scale = () => {
    const name = parent ? parent.upscaler : $("[name=upscaler]", form).value;
    return upscalers.find((one) => one.name === name)?.scale ?? null;
  };
  const refresh = () => {
    const found = gathered.verdict(scale());
    replace(place.images, summary(gathered, found, refresh));
    replace(place.verdict, parent ? null : needed(form, found, gathered));
    $("[type=submit]", form).disabled = !(gathered.archive || found.pairs.length) || gathered.waiting > 0;
  };
  replace(
    form,
    h(
      "section",
      { class: "card stack" },
      h("h2", {}, "1. Images"),
      h(
        "p",
        {},
        "High-resolution images Y like those you will serve. If you have the real inputs X, add them under the same names; otherwise X is made from Y.",
      ),
      dropZone(gathered, refresh),
      place.images,
    ),
    h(
      "section",
      { class: "card stack" },
      h("h2", {}, "2. Settings"),
      parent ? inherited(parent) : settingsFields(upscalers),
    ),
    h(
      "section",
      { class: "card stack" },
      h("h2", {}, "3. Start"),
      place.verdict,
      place.sending,
      h(
        "div",
        { class: "button-row" },
        h("button", { type: "submit", class: "primary", disabled: true }, "Upload and calibrate"),
        h("a", { class: "button", href: parent ? service.page(parent.id) : "/calibrations" }, "Back"),
      ),
    ),
  );
  addEventListener("dragover", keepPage);
  addEventListener("drop", keepPage);
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // The browser cannot point at a field that is folded away.
    for (const folded of $$("details:has(:invalid)", form)) folded.open = true;
    if (form.reportValidity()) send(form, gathered, scale(), parent, place.sending);
  });
  replace(
    root,
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        {},
        h("p", { class: "hint" }, h("a", { href: "/calibrations" }, "Calibrations")),
        h("h1", {}, heading),
        h(
          "p",
          { class: "lead" },
          "The promise speaks about images drawn from the same population as these, and about no others.",
        ),
      ),
    ),
    form,
  );
  refresh();
}

/** Whether so many pairs can reach the α that was asked for. */
function needed(form, { pairs }, gathered) {
  const config = configOf(form, true);
  const bound = boundOf(config.fidelity);
  const least = minimalCount({ alpha: config.default_alpha, bound, guarantee: config.guarantee });
  if (!Number.isFinite(least)) return null;
  const n = pairs.length;
  if (gathered.archive || !n)
    return h(
      "p",
      { class: "hint" },
      `α = ${level(config.default_alpha)} needs at least ${count(least)} pairs; twice as many make the mask steadier.`,
    );
  const smallest = level(minimalAlpha({ n, bound, guarantee: config.guarantee }));
  if (n < least) {
    return h(
      "p",
      { class: "callout warn", dataset: { verdict: "few" } },
      h("strong", {}, `Too few for α = ${level(config.default_alpha)}`),
      `${count(n)} pairs reach no smaller α than ${smallest}, so at this α nothing could be trusted. ${count(least - n)} more are needed.`,
    );
  }
  return h(
    "p",
    { class: "callout good", dataset: { verdict: "enough" } },
    `${count(n)} pairs are enough for α = ${level(config.default_alpha)} (at least ${count(least)}). The smallest α they reach is ${smallest}.`,
  );
}

function inherited(parent) {
  return [
    h("p", {}, pipelineWords(parent.pipeline)),
    h(
      "p",
      { class: "hint" },
      "The settings are those of the calibration; only the new pairs are generated for. The old calibration stays.",
    ),
    h(
      "label",
      { class: "check" },
      h("input", { type: "checkbox", name: "activate" }),
      h("span", {}, "Activate the new one as soon as it is finished"),
    ),
  ];
}

async function send(form, gathered, scale, parent, place) {
  const { pairs, given, items } = gathered.verdict(scale);
  const body = new FormData();
  if (parent) body.set("activate", String(new FormData(form).has("activate")));
  else body.set("config", JSON.stringify(configOf(form, given)));
  if (gathered.archive) body.set("archive", gathered.archive, gathered.archive.name);
  for (const { name, x, y } of gathered.archive ? [] : pairs) {
    body.append("y", y.file, sentName(name, y));
    if (x) body.append("x", x.file, sentName(name, x));
  }
  const groups = Object.fromEntries(pairs.filter(({ group }) => group).map(({ name, group }) => [name, group]));
  if (!gathered.archive && Object.keys(groups).length) body.set("groups", JSON.stringify(groups));
  const abort = new AbortController();
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Upload" });
  const words = h("p", { class: "hint", role: "status" }, "Sending…");
  const submit = $("[type=submit]", form);
  const warn = (event) => event.preventDefault();
  submit.disabled = true;
  addEventListener("beforeunload", warn);
  replace(
    place,
    items.length > 0 &&
      !gathered.archive &&
      h("p", { class: "hint" }, `${count(items.length)} files that cannot be used are not sent.`),
    bar,
    words,
    h(
      "div",
      { class: "button-row" },
      h("button", { type: "button", class: "danger small", onclick: () => abort.abort() }, "Stop the upload"),
    ),
  );
  try {
    const { json } = await upload(parent ? service.path(parent.id, "pairs") : service.BASE, body, {
      kind: "admin",
      signal: abort.signal,
      onProgress: (sent, total) => {
        bar.value = total ? sent / total : 0;
        words.textContent =
          sent < total
            ? `${bytes(sent)} of ${bytes(total)} sent`
            : "All sent; the service looks at the images…";
      },
    });
    removeEventListener("beforeunload", warn);
    location.href = service.page(json.id);
  } catch (error) {
    removeEventListener("beforeunload", warn);
    submit.disabled = false;
    if (error.name === "AbortError")
      replace(place, h("p", { class: "callout" }, "The upload was stopped; nothing was kept."));
    else replace(place, problem({ title: error.title, detail: error.message, items: error.members?.items }));
  }
}
