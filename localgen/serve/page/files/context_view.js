// The line below the message box: how full the context is, and how fast a reply grows.
import { branchOf } from "./conversation.js";
import { byId, setText } from "./dom.js";
import { contextUse, speedText } from "./meters.js";

// run: the reply that is on its way, or undefined. nCtx: of the model, or null.
export function showContext(conversation, run, nCtx) {
  const counted = branchOf(conversation).findLast((message) => message.usage);
  const before = counted ? counted.usage.prompt_tokens + counted.usage.completion_tokens : 0;
  const growing = run && counted !== run.message ? run.reply.nTokens : 0;
  const use = contextUse(before + growing, nCtx);
  byId("context").hidden = use.used === 0;
  byId("context").classList.toggle("full", use.share > 0.9);
  byId("context-bar").hidden = use.total === null;
  byId("context-fill").style.width = `${100 * use.share}%`;
  setText(byId("context-text"), use.text);
  const speed = run?.reply.speed;
  setText(byId("speed"), speed ? speedText(speed) : "");
}
