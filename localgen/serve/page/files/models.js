// The models that the server serves.
import { getJson } from "./server.js";

// Returns [{id, nCtx, isLoading}]; nCtx is null if the server does not say.
export async function loadModels() {
  const { data } = await getJson("/v1/models");
  return data.map(({ id, n_ctx: nCtx, max_model_len: maxLength, meta, status }) => ({
    id,
    nCtx: nCtx ?? maxLength ?? meta?.n_ctx ?? null,
    isLoading: status === "loading",
  }));
}
