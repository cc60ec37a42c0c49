// Tells screen readers about a reply: each paragraph once it is complete, politely, not each token.
import { byId, h } from "./dom.js";

const MAX_KEPT = 20;
const announced = new WeakMap(); // run → how many of its blocks were announced

export function announce(text) {
  const place = byId("announcer");
  place.append(h("p", {}, text));
  while (place.children.length > MAX_KEPT) place.firstChild.remove();
}

// Announces the complete blocks of a growing reply; the last one may still grow until it ended.
export function announceBlocks(run, blocks, isEnded) {
  const end = isEnded ? blocks.length : blocks.length - 1;
  for (let n = announced.get(run) ?? run.nBlocks; n < end; n += 1) {
    announce(spoken(blocks[n]));
    announced.set(run, n + 1);
  }
}

function spoken(node) {
  const code = node.classList.contains("code") && node.querySelector("pre");
  return code ? code.getAttribute("aria-label") : node.textContent;
}
