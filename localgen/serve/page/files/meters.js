// Figures of a reply as people read them.
const whole = new Intl.NumberFormat("en");

export function tokensText(n) {
  return `${whole.format(n)} ${n === 1 ? "token" : "tokens"}`;
}

export function speedText(speed) {
  return `${speed.toFixed(speed < 10 ? 1 : 0)} tokens/s`;
}

const ENDINGS = {
  length: "cut at the longest length",
  stopped: "stopped by you",
  content_filter: "cut by a filter",
};
const CUT = [null, undefined, "length", "stopped"];

// Whether a reply may go on: it reached its limit, was stopped, failed, or its page was closed.
export function isCut({ finishReason }) {
  return CUT.includes(finishReason);
}

// Returns what is known about a complete reply, the most interesting first.
export function replyFacts(message) {
  const { usage, speed, wait, model, finishReason, error } = message;
  return [
    usage && tokensText(usage.completion_tokens),
    speed && speedText(speed),
    wait !== null && wait !== undefined && `first after ${wait.toFixed(1)} s`,
    model,
    finishReason || error ? ENDINGS[finishReason] : "interrupted",
  ].filter(Boolean);
}

// Returns {used, total, share, text} of a model's context. total is null if the server does not say.
export function contextUse(used, total) {
  const text = total ? `${whole.format(used)} of ${tokensText(total)}` : tokensText(used);
  return { used, total, share: total ? Math.min(used / total, 1) : 0, text: `Context: ${text}` };
}
