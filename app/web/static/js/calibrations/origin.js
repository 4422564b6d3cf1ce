// Where a calibration comes from, and what was done with it.

import { h, replace } from "../lib/dom.js";
import { time } from "../lib/format.js";
import * as service from "./service.js";
import { pipelineWords } from "./words.js";

const AUDIT_TAIL = 1000;

/** Who made a calibration, when, with what, of what. */
export function provenance(found) {
  const { provenance: origin, degradation } = found;
  const facts = [
    ["Made", time(found.created_at)],
    ["By", origin.created_by],
    ["With", origin.software],
    origin.parent && ["From", h("a", { href: service.page(origin.parent) }, origin.parent)],
    origin.note && ["Note", origin.note],
    ["Upscaler", found.upscaler],
    ["Fingerprint", h("code", {}, found.pipeline.fingerprint)],
    ["Pipeline", pipelineWords(found.pipeline)],
    ["X", degradation ? degradationWords(degradation) : "was given"],
    ["Seed", String(found.seed)],
    origin.attributions.length > 0 && [
      "Images",
      h(
        "details",
        {},
        h("summary", {}, `${origin.attributions.length} attributions`),
        h(
          "ul",
          {},
          origin.attributions.map((line) => h("li", {}, line)),
        ),
      ),
    ],
    found.skipped.length > 0 && [
      "Left out",
      h(
        "ul",
        { class: "items" },
        found.skipped.map(({ name, reason }) => h("li", {}, h("b", {}, name), `: ${reason}`)),
      ),
    ],
  ].filter(Boolean);
  return h(
    "dl",
    { class: "facts" },
    facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

function degradationWords({ grey, blur, noise, jpeg }) {
  const steps = [
    grey && "without colour",
    blur > 0 && `blurred (${blur})`,
    "reduced bicubically",
    noise > 0 && `noise (${noise})`,
    jpeg && `JPEG quality ${jpeg}`,
  ];
  return `made from Y: ${steps.filter(Boolean).join(", ")}`;
}

/** What the audit log tells about a calibration, the newest first. */
export async function fillAudit(found, place) {
  try {
    const all = await service.audit(AUDIT_TAIL);
    const mine = all.filter(({ facts }) => Object.values(facts).includes(found.id));
    replace(
      place,
      mine.length
        ? h(
            "ul",
            { class: "audit" },
            mine
              .slice(0, 20)
              .map(({ at, action, actor, facts }) =>
                h(
                  "li",
                  {},
                  h("span", { class: "hint" }, time(at)),
                  " ",
                  h("b", {}, action.replace("calibration.", "")),
                  ` by ${actor}`,
                  facts.previous && ` in place of ${facts.previous}`,
                ),
              ),
          )
        : h("p", { class: "hint" }, "The audit log tells nothing about it."),
    );
  } catch (error) {
    replace(place, h("p", { class: "callout bad" }, error.message));
  }
}
