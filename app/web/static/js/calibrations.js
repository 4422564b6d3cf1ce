// Calibrations: the list, a new one, a job at work, one in detail, two side by side. Which of them
// is shown stands in the address, so that reloading, the back button and links all work.

import "./lib/shell.js";
import { load } from "./calibrations/options.js";
import { ApiError } from "./lib/api.js";
import { $ } from "./lib/dom.js";
import { html, render } from "./lib/html.js";

const VIEWS = {
  list: () => import("./calibrations/list.js"),
  new: () => import("./calibrations/create.js"),
  job: () => import("./calibrations/job.js"),
  detail: () => import("./calibrations/detail.js"),
  compare: () => import("./calibrations/compare.js"),
};

const root = $("#view");
root.replaceChildren();

function viewOf(query) {
  if (query.has("new")) return "new";
  if (query.has("compare")) return "compare";
  if (query.has("id")) return query.get("id").startsWith("job-") ? "job" : "detail";
  return "list";
}

async function show() {
  const query = new URLSearchParams(location.search);
  root.setAttribute("aria-busy", "true");
  try {
    const [view] = await Promise.all([VIEWS[viewOf(query)](), load()]);
    await view.show(root, query);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    render(
      html`<h1>${error.status === 404 ? "Not here" : "This did not work"}</h1>
        <p class="callout bad" role="alert">${error.message}</p>
        <p class="button-row">
          <button type="button" @click=${show}>Try again</button>
          <a href="/calibrations">All calibrations</a>
        </p>`,
      root,
    );
  } finally {
    root.removeAttribute("aria-busy");
  }
}

show();
