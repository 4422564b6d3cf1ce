// The view follows from the address, so that reloading, the back button and links work.

import * as connect from "./calibrations/connect.js";
import * as create from "./calibrations/create.js";
import * as detail from "./calibrations/detail.js";
import * as job from "./calibrations/job.js";
import * as list from "./calibrations/list.js";
import { load } from "./calibrations/service.js";
import { html } from "./lib/html.js";
import { begin, root } from "./lib/shell.js";

const VIEWS = { list, new: create, connect, job, detail };

const viewOf = (query) =>
  ["new", "connect"].find((name) => query.has(name)) ??
  (query.get("id")?.startsWith("job-") ? "job" : query.has("id") ? "detail" : "list");

async function show() {
  const query = new URLSearchParams(location.search);
  await load();
  await VIEWS[viewOf(query)].show(root, query);
}

begin(show, html`<a href="/calibrations">All calibrations</a>`);
