// Talks to the server that this page came from: requests, streams, and errors as it words them.
import { readEvents } from "./events.js";
import { keep, recall } from "./kept.js";

// What went wrong with a request. status: of HTTP, or 0 if no answer came or a stream broke off.
export class ServerError extends Error {
  constructor(message, { status = 0, param = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

export function setApiKey(key) {
  keep("session", "key", key);
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
      if (chunk.error) throw asServerError(answer, chunk, 0);
      yield chunk;
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
  const { message, param } = body.error ?? {};
  return new ServerError(String(message ?? `The server answered ${answer.status}.`), {
    status,
    param: param ?? null,
    retryAfter: answer.headers.get("Retry-After"),
  });
}
