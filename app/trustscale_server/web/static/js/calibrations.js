// The view follows from the address, so that reloading, the back button and links work.

import * as connect from "./calibrations/connect.js";
import * as create from "./calibrations/create.js";
import * as detail from "./calibrations/detail.js";
import * as home from "./calibrations/home.js";
import * as job from "./calibrations/job.js";
import { load } from "./calibrations/service.js";
import * as tryout from "./calibrations/tryout.js";
import { html } from "./lib/html.js";
import { at } from "./lib/place.js";
import { begin, root } from "./lib/shell.js";

const VIEWS = { home, new: create, connect, try: tryout, job, detail };

const viewOf = (query) =>
  ["new", "connect", "try"].find((name) => query.has(name)) ??
  (query.get("id")?.startsWith("job-") ? "job" : query.has("id") ? "detail" : "home");

async function show() {
  const query = new URLSearchParams(location.search);
  await load();
  await VIEWS[viewOf(query)].show(root, query);
}

begin(show, html`<a href=${at("calibrations")}>Studio</a>`);
