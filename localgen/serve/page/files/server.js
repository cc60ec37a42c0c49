// Talks to the server that this page came from: requests, streams, and errors as it words them.
import { readEvents } from "./events.js";
import { keep, recall } from "./kept.js";

const IN_HEADER = /^[\x21-\x7e]+$/;
const BAD_KEY = "This key has spaces or letters that no API key has. Copy it again.";

// What went wrong with a request. status: of HTTP, or 0 if no answer came or a stream broke off.
// code: the server's word for it, or null.
export class ServerError extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function setApiKey(key) {
  keep("session", "key", key.trim());
}

export async function getJson(path) {
  const answer = await send(path, { method: "GET" });
  return answer.json();
}

// Yields the chunks of a streamed answer. Throws ServerError, also for an error inside the stream
// and for a stream that ends before its last event.
export async function* postStream(path, body, signal) {
  const answer = await send(path, { method: "POST", body: JSON.stringify(body), signal });
  try {
    for await (const data of readEvents(answer.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk?.error) throw asServerError(answer, chunk, 0);
      if (chunk) yield chunk;
    }
  } catch (error) {
    if (error instanceof ServerError || signal?.aborted) throw error;
    throw new ServerError(`The connection broke off (${error.message}).`);
  }
  throw new ServerError("The connection ended before the reply was complete.");
}

async function send(path, options) {
  const headers = {};
  if (options.body) headers["Content-Type"] = "application/json";
  const key = recall("session", "key");
  if (key && !IN_HEADER.test(key)) throw new ServerError(BAD_KEY, { status: 401 });
  if (key) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ServerError("The server cannot be reached. Check that it is running, then retry.");
  }
  if (!answer.ok) throw asServerError(answer, await readError(answer), answer.status);
  return answer;
}

async function readError(answer) {
  try {
    return await answer.json();
  } catch {
    return {}; // not JSON: a proxy's page, or no body
  }
}

function asServerError(answer, body, status) {
  const { message, code } = body?.error ?? {};
  const text = String(message ?? `The server answered ${answer.status}.`);
  return new ServerError(text, { status, code: code ?? null });
}
