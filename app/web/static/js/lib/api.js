// Requests to the service. Problem documents (RFC 9457) become errors that a person can read.

import { askForKey, keyHeaders, setKey } from "./auth.js";

/** What the service, or the way to it, had against a request. `message` is fit to be shown. */
export class ApiError extends Error {
  /** @param {{status?: number, type?: string, title?: string, detail?: string, retryAfter?: number | null, requestId?: string, members?: any}} facts */
  constructor({
    status = 0,
    type = "",
    title = "",
    detail = "",
    retryAfter = null,
    requestId = "",
    members = {},
  }) {
    super(detail || title || "The request failed.");
    this.name = "ApiError";
    this.status = status;
    this.type = type;
    this.title = title;
    this.detail = detail;
    this.retryAfter = retryAfter;
    this.requestId = requestId;
    this.members = members;
  }

  /** The last part of the problem's type, such as "bad-image". */
  get slug() {
    return this.type.split("/").pop();
  }
}

/** Of requests that need an admin's key. */
export const ADMIN = { kind: "admin" };

/** @typedef {Omit<RequestInit, "headers"> & {kind?: string, ask?: boolean, headers?: Record<string, string>}} Options */

/**
 * A successful Response, or an ApiError.
 *
 * kind: "client" or "admin", whose key is sent. One that is refused is asked for, and the request tried again.
 * Other options are those of fetch. An AbortError passes as it is.
 *
 * @param {string} path
 * @param {Options} options
 * @returns {Promise<Response>}
 */
export async function request(path, { kind = "client", headers = {}, ask = true, ...options } = {}) {
  const sent = keyHeaders(kind);
  const response = await send(path, { ...options, headers: { ...headers, ...sent } });
  if (response.ok) return response;
  const error = await problemOf(response);
  if (isRefused(response.status, kind) && ask && (await anotherKey(kind, error, sent))) {
    return request(path, { kind, headers, ask, ...options });
  }
  throw error;
}

/** The JSON of an answer. @param {string} path @param {Options} options @returns {Promise<any>} */
export async function getJson(path, options = {}) {
  return (await request(path, options)).json();
}

/**
 * Send a JSON document; the JSON of the answer, or null if it is empty.
 *
 * @param {string} method
 * @param {string} path
 * @param {unknown} document
 * @param {Options} options
 */
export async function sendJson(method, path, document, options = {}) {
  const body = document === undefined ? {} : { body: JSON.stringify(document) };
  const type = document === undefined ? {} : { "Content-Type": "application/json" };
  const response = await request(path, {
    method,
    ...body,
    ...options,
    headers: { ...type, ...options.headers },
  });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/** The bytes of an answer, for pictures that need a key. @param {string} path @param {Options} options */
export async function getBlob(path, options = {}) {
  return (await request(path, options)).blob();
}

/**
 * Post a form with upload progress, which fetch does not tell.
 *
 * onProgress(sent, total) in bytes. Returns {status, header: name → value, json}. With `whole`, an
 * abort after the last byte waits for the answer, which names what the caller has to take back.
 *
 * @param {string} path
 * @param {FormData} form
 * @param {{kind?: string, method?: string, headers?: Record<string, string>, onProgress?: (sent: number, total: number) => void, signal?: AbortSignal, ask?: boolean, whole?: boolean}} options
 */
export async function upload(path, form, options = {}) {
  const { kind = "client", method = "POST", headers = {}, onProgress, signal, ask = true, whole } = options;
  const key = keyHeaders(kind);
  const answer = await new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open(method, path);
    for (const [name, value] of Object.entries({ ...headers, ...key })) {
      call.setRequestHeader(name, value);
    }
    if (onProgress) call.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    call.onload = () => resolve(call);
    call.onerror = () => reject(unreachable());
    call.onabort = () => reject(new DOMException("Aborted", "AbortError"));
    let sent = false;
    call.upload.onload = () => {
      sent = true;
    };
    const stop = () => (whole && sent) || call.abort();
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) call.abort();
    else call.send(form);
  });
  const header = (name) => answer.getResponseHeader(name);
  if (answer.status >= 200 && answer.status < 300) {
    return { status: answer.status, header, json: parsed(answer.responseText) };
  }
  const error = fromDocument(answer.status, parsed(answer.responseText), header);
  if (isRefused(answer.status, kind) && ask && (await anotherKey(kind, error, key))) {
    return upload(path, form, options);
  }
  throw error;
}

/** Whether the key is at fault: none, a wrong one, or a client's where an admin's is needed. */
function isRefused(status, kind) {
  return status === 401 || (status === 403 && kind === "admin");
}

/**
 * Ask for a key in the place of the one that was `sent` and refused, if there was one. A better one
 * that has come meanwhile is neither thrown away nor asked for again.
 */
function anotherKey(kind, error, sentHeaders) {
  const { Authorization: sent } = sentHeaders;
  const { Authorization: present } = keyHeaders(kind);
  if (present && present !== sent) return true;
  if (present) setKey(kind, null);
  return askForKey(kind, sent ? error.message : "");
}

async function send(path, options) {
  try {
    return await fetch(path, { ...options, credentials: "omit" });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
}

async function problemOf(response) {
  const document = parsed(await response.text().catch(() => ""));
  return fromDocument(response.status, document, (name) => response.headers.get(name));
}

function fromDocument(status, document, header) {
  const { type = "", title = "", detail = "", ...members } = document ?? {};
  const seconds = Number(header("Retry-After"));
  return new ApiError({
    status,
    type,
    title,
    detail: detail || title || `The service answered with status ${status}.`,
    members,
    retryAfter: seconds > 0 ? seconds : null,
    requestId: header("X-Request-ID") ?? "",
  });
}

function unreachable() {
  return new ApiError({
    title: "Not reachable",
    detail: "The service cannot be reached. Check the connection, and whether it runs.",
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
