// OpenClaw's own Brave plugin, as published, with one thing more: it reads a key that the configuration refers to.
// OpenClaw 2026.9.6 resolves such references for plugins that it has installed itself, and for no others.
import { readFileSync } from "node:fs";
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";
import { t as createBraveWebSearchProvider } from "./.setup/brave-web-search-provider-BjiP3GNA.mjs";

function follow(reference, config) {
  const source = config.secrets?.providers?.[reference.provider];
  let found = JSON.parse(readFileSync(source.path, "utf8"));
  for (const part of reference.id.split("/").slice(1)) found = found?.[part];
  return found;
}

function withKey(config) {
  const search = config?.plugins?.entries?.brave?.config?.webSearch;
  if (search?.apiKey?.source !== "file") return config;
  const copy = structuredClone(config);
  copy.plugins.entries.brave.config.webSearch.apiKey = follow(search.apiKey, config);
  return copy;
}

export default definePluginEntry({
  id: "brave",
  name: "Brave Search",
  description: "Web search by Brave",
  register(api) {
    const provider = createBraveWebSearchProvider();
    const createTool = (context) => provider.createTool({ ...context, config: withKey(context.config) });
    api.registerWebSearchProvider({ ...provider, createTool });
  },
});
