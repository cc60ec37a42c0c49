// Conversations to a file and from one.
import { exportText, importText } from "./conversation_check.js";
import { h } from "./dom.js";
import { MAX_BYTES } from "./library.js";

const MAX_FILE_BYTES = 3 * MAX_BYTES; // what was kept comes back: UTF-8 may take 3 bytes a character

export function exportFile(conversations) {
  const address = URL.createObjectURL(
    new Blob([exportText(conversations)], { type: "application/json" }),
  );
  const day = new Date().toISOString().slice(0, 10);
  h("a", { href: address, download: `localgen-conversations-${day}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // when the browser has surely read it
}

// Returns the conversations of a file. Throws an Error that says why it cannot be imported.
export async function importFile(file) {
  if (file.size > MAX_FILE_BYTES)
    throw new Error(`This file is larger than ${MAX_FILE_BYTES / 2 ** 20} MB.`);
  return importText(await file.text());
}
