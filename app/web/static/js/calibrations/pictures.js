// Pairs with their pictures, as long as the service keeps them.

import { openDialog } from "../lib/dialog.js";
import { h, replace } from "../lib/dom.js";
import { count, size } from "../lib/format.js";
import { toastError } from "../lib/toast.js";
import * as service from "./service.js";

const PARTS = [
  ["x", "Input X"],
  ["prediction", "Prediction"],
  ["y", "Truth Y"],
];
const MOST_ROWS = 500;

/** The three pictures of a pair side by side; a click shows one of them large. */
export function pictures(id, name) {
  const place = h(
    "div",
    { class: "pictures" },
    PARTS.map(() => h("div", { class: "picture waiting" })),
  );
  load();
  return place;

  async function load() {
    try {
      const urls = await Promise.all(PARTS.map(([part]) => service.picture(id, name, part)));
      replace(
        place,
        PARTS.map(([, words], k) =>
          h(
            "figure",
            { class: "picture" },
            h(
              "button",
              {
                type: "button",
                "aria-label": `${words} of ${name}, large`,
                onclick: () => enlarge(name, urls, k),
              },
              h("img", { src: urls[k], alt: "" }),
            ),
            h("figcaption", {}, words),
          ),
        ),
      );
    } catch (error) {
      const gone = error.status === 404;
      replace(
        place,
        h(
          "p",
          { class: gone ? "hint" : "callout bad" },
          gone
            ? "Its pictures are not kept any more: a calibration holds no image, and the files of the job that made it are removed after a while."
            : error.message,
        ),
      );
      place.classList.add("gone");
    }
  }
}

function enlarge(name, urls, first) {
  const image = h("img", { src: urls[first], alt: PARTS[first][1], class: "enlarged" });
  const buttons = PARTS.map(([, words], k) =>
    h("button", { type: "button", "aria-pressed": String(k === first), onclick: () => choose(k) }, words),
  );
  function choose(chosen) {
    image.src = urls[chosen];
    image.alt = PARTS[chosen][1];
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === chosen)));
  }
  openDialog({
    title: name,
    body: [h("div", { class: "segments", role: "group", "aria-label": "Picture" }, buttons), image],
    actions: [{ label: "Close", value: null }],
    wide: true,
  });
}

/** All pairs by name, read when the list is opened. */
export function pairList(found) {
  const place = h("div", {});
  const details = h("details", {}, h("summary", {}, `${count(found.n)} pairs by name`), place);
  details.addEventListener("toggle", async () => {
    if (!details.open || place.childElementCount) return;
    replace(place, h("p", { class: "hint" }, "Reading…"));
    try {
      replace(place, table(found, await service.pairs(found.id)));
    } catch (error) {
      replace(place, h("p", { class: "callout bad" }, error.message));
    }
  });
  return details;
}

function table(found, pairs) {
  const show = (name) =>
    openDialog({
      title: name,
      body: pictures(found.id, name),
      actions: [{ label: "Close", value: null }],
      wide: true,
    });
  const leave = async (name) => {
    try {
      const made = await service.removePair(found.id, name);
      if (made) location.href = service.page(made);
    } catch (error) {
      toastError(error);
    }
  };
  return h(
    "div",
    { class: "table-scroll short", tabindex: "0", role: "region", "aria-label": "All pairs" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Name", "Size of Y", "Steps", ""].map((text) =>
            h("th", { scope: "col" }, text || h("span", { class: "visually-hidden" }, "Act")),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        pairs.slice(0, MOST_ROWS).map((pair) =>
          h(
            "tr",
            {},
            h("td", {}, pair.name, pair.group && h("span", { class: "badge" }, pair.group)),
            h("td", {}, size(pair.width, pair.height)),
            h("td", {}, count(pair.breakpoints)),
            h(
              "td",
              { class: "actions" },
              h(
                "button",
                {
                  type: "button",
                  class: "small quiet",
                  onclick: () => show(pair.name),
                  "aria-label": `Pictures of ${pair.name}`,
                },
                "Pictures",
              ),
              found.n > 1 &&
                h(
                  "button",
                  {
                    type: "button",
                    class: "small quiet",
                    onclick: () => leave(pair.name),
                    "aria-label": `Leave out ${pair.name}`,
                  },
                  "Leave out",
                ),
            ),
          ),
        ),
      ),
    ),
    pairs.length > MOST_ROWS &&
      h("p", { class: "hint" }, `The first ${MOST_ROWS} of ${count(pairs.length)}.`),
  );
}
