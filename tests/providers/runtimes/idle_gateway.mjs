// A stand-in for openclaw.mjs inside the image: listens at once, so that tests of the runtime need no 10 s boot each.
// Files on the state mount tell it to misbehave: `exit` (code to exit with), `hog` (eat memory), `slow` (ms to stop).
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";

const state = process.env.OPENCLAW_STATE_DIR;
const told = (name) => (existsSync(`${state}/${name}`) ? readFileSync(`${state}/${name}`, "utf8") : null);

if (told("exit") !== null) process.exit(Number(told("exit")));
if (told("hog") !== null) {
  const kept = [];
  for (;;) kept.push(Buffer.alloc(16 * 1024 * 1024, 1));
}
createServer((_, answer) => answer.end('{"ok":true,"status":"started"}')).listen(18789, "0.0.0.0", () => console.log("idle gateway listens"));
process.on("SIGTERM", () => {
  console.log("told to stop");
  setTimeout(() => process.exit(0), Number(told("slow") ?? 0));
});
