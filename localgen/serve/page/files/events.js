// Reads server-sent events from the body of an answer, as the HTML standard defines their format.

// Yields the data of each event, a string.
export async function* readEvents(body) {
  const lines = readLines(body);
  let data = [];
  for await (const line of lines) {
    if (line === "") {
      if (data.length) yield data.join("\n");
      data = [];
    } else if (line.startsWith("data:")) {
      data.push(line.slice(line[5] === " " ? 6 : 5));
    }
  }
}

// Yields complete lines, which end with CR LF, LF or CR; what follows the last end is not one.
async function* readLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      yield* lines;
    }
  } finally {
    await reader.cancel().catch(() => {}); // the connection may have ended already
  }
}
