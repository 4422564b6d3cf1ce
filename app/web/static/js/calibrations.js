// Calibrations: the list, a new one, a job at work, one in detail, two side by side. Which of them
// is shown stands in the address, so that reloading, the back button and links all work.

import { load } from "./calibrations/options.js";
import { html } from "./lib/html.js";
import { begin, root } from "./lib/shell.js";

const VIEWS = {
  list: () => import("./calibrations/list.js"),
  new: () => import("./calibrations/create.js"),
  job: () => import("./calibrations/job.js"),
  detail: () => import("./calibrations/detail.js"),
  compare: () => import("./calibrations/compare.js"),
};

function viewOf(query) {
  if (query.has("new")) return "new";
  if (query.has("compare")) return "compare";
  if (query.has("id")) return query.get("id").startsWith("job-") ? "job" : "detail";
  return "list";
}

async function show() {
  const query = new URLSearchParams(location.search);
  const [view] = await Promise.all([VIEWS[viewOf(query)](), load()]);
  await view.show(root, query);
}

begin(show, html`<a href="/calibrations">All calibrations</a>`);
