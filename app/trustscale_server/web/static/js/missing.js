// An address that no page has; its words are in the document.

import { root } from "./lib/shell.js";

root.remove();
