// Requests to the service. Problem documents (RFC 9457) become errors that a person can read.

import { askForKey, keyHeaders, setKey } from "./auth.js";

/** A problem of the service or of the network; `slug` is the last part of its type, such as "bad-image". */
export class ApiError extends Error {
  constructor(message, { status = 0, title = "", slug = "", retryAfter = null, members = {} }) {
    super(message);
    this.status = status;
    this.title = title;
    this.slug = slug;
    /** @type {number | null} seconds */
    this.retryAfter = retryAfter;
    /** @type {any} */
    this.members = members;
  }
}

export const ADMIN = { kind: "admin" };

/** @typedef {Omit<RequestInit, "headers"> & {kind?: string, ask?: boolean, headers?: Record<string, string>}} Options */

/**
 * A successful Response, or an ApiError; an AbortError passes. A refused key is asked for again.
 *
 * @param {Options} options beside ours those of fetch; kind: "client" or "admin", whose key is sent
 */
export async function request(path, options = {}, send = fetched) {
  const { kind = "client", headers = {}, ask = true, ...rest } = options;
  const sent = keyHeaders(kind);
  const response = await send(path, { ...rest, headers: { ...headers, ...sent } });
  if (response.ok) return response;
  const error = await problemOf(response);
  // None, a wrong one, or a client's where an admin's is needed.
  const isRefused = error.status === 401 || (error.status === 403 && kind === "admin");
  if (isRefused && ask && (await anotherKey(kind, error, sent))) return request(path, options, send);
  throw error;
}

/** @param {Options} options @returns {Promise<any>} */
export const getJson = async (path, options = {}) => (await request(path, options)).json();

/** @param {Options} options */
export const getBlob = async (path, options = {}) => (await request(path, options)).blob();

/** An admin's request with a JSON document or none; the JSON of the answer, null if it is empty. */
export async function sendJson(method, path, document = undefined) {
  const headers = document && { "Content-Type": "application/json" };
  const response = await request(path, { ...ADMIN, method, headers, body: JSON.stringify(document) });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/**
 * Post a form with upload progress, which fetch does not report; the JSON of the answer. With `whole`, an abort after
 * the last byte waits for the answer, which names what the caller has to cancel.
 *
 * @param {string} path @param {FormData} body
 * @param {Options & {onProgress: (sent: number, total: number) => void, whole?: boolean}} options sizes in bytes
 */
export async function upload(path, body, { onProgress, whole = false, ...options }) {
  const send = (_, { headers, signal }) =>
    new Promise((resolve, reject) => {
      const call = new XMLHttpRequest();
      call.open("POST", path);
      for (const [name, value] of Object.entries(headers)) call.setRequestHeader(name, value);
      let isSent = false;
      call.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
      call.upload.onload = () => (isSent = true);
      call.onload = () => {
        const after = { "Retry-After": call.getResponseHeader("Retry-After") ?? "" };
        resolve(new Response(call.response, { status: call.status, headers: after }));
      };
      call.onerror = () => reject(unreachable());
      call.onabort = () => reject(new DOMException("Aborted", "AbortError"));
      signal?.addEventListener("abort", () => (whole && isSent) || call.abort(), { once: true });
      if (signal?.aborted) call.abort();
      else call.send(body);
    });
  return (await request(path, options, send)).json();
}

/** Ask for a key in place of the one that was refused; a key that was set since then is used without asking. */
function anotherKey(kind, error, sentHeaders) {
  const { Authorization: sent } = sentHeaders;
  const { Authorization: present } = keyHeaders(kind);
  if (present && present !== sent) return true;
  if (present) setKey(kind, null);
  return askForKey(kind, sent ? error.message : "");
}

async function fetched(path, options) {
  try {
    return await fetch(path, { ...options, credentials: "omit" });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
}

async function problemOf(response) {
  const { status, headers } = response;
  const retryAfter = Number(headers.get("Retry-After")) || null;
  const document = await response.json().catch(() => null);
  return problem(document, `The service answered with status ${status}.`, { status, retryAfter });
}

/** A problem document as an error; `otherwise`: the message of an empty one. */
export function problem(document, otherwise, facts = {}) {
  const { type = "", title = "", detail = "", ...members } = document ?? {};
  return new ApiError(detail || title || otherwise, {
    title,
    slug: type.split("/").pop(),
    members,
    ...facts,
  });
}

const unreachable = () =>
  new ApiError("The service cannot be reached. Check the connection, and whether it runs.", {
    title: "Not reachable",
  });
