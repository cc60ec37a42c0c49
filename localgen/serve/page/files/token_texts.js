// The tokens of a reply with their texts. A character may be spread over several tokens: its text is
// that of the last one, and the others have none.

export class TokenTexts {
  constructor() {
    this.decoder = new TextDecoder();
    this.tokens = []; // {text, logprob, alternatives: [{text, logprob}]}
  }

  // entries: of OpenAI's logprobs.content.
  add(entries) {
    for (const { token, bytes, logprob, top_logprobs: top = [] } of entries) {
      const text = bytes ? this.decoder.decode(new Uint8Array(bytes), { stream: true }) : token;
      const alternatives = top.map((each) => ({ text: each.token, logprob: each.logprob }));
      this.tokens.push({ text, logprob, alternatives });
    }
  }

  // A text without probabilities: what a server sends that computes none.
  addText(text) {
    if (text) this.tokens.push({ text, logprob: null, alternatives: [] });
  }

  get text() {
    return this.tokens.map(({ text }) => text).join("");
  }

  // Returns exp(-mean log-probability), or null if there are none.
  get perplexity() {
    const known = this.tokens.filter(({ logprob }) => logprob !== null);
    const sum = known.reduce((total, { logprob }) => total + logprob, 0);
    return known.length ? Math.exp(-sum / known.length) : null;
  }
}
