/** The playground: a source, a prompt, and what becomes of them. */
import "../shared/base.css";
import "./playground.css";
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { Icon } from "../shared/Icon";
import { listen, type Shortcut } from "../shared/keys";
import { PageHead } from "../shared/PageHead";
import { Problems } from "../shared/Problems";
import { ShortcutHelp } from "../shared/ShortcutHelp";
import { SignIn } from "../shared/SignIn";
import { cycle } from "../shared/Theme";
import { desk, MOST_TAKES } from "./desk";
import { FileField, pick, take } from "./Overlay";
import { ForkDialog } from "./ForkDialog";
import { Panels } from "./Panels";
import { focusPrompt, PromptBox } from "./PromptBox";
import { SourceBar } from "./SourceBar";
import { Stage } from "./Stage";
import { fullScreen, Transport } from "./Transport";
import { dialog, divider, moveDivider, nextView, panel } from "./view";

const SHORTCUTS: readonly Shortcut[] = [
  { keys: [" "], shown: "Space", what: "Start, pause, resume", run: () => void desk.go() },
  { keys: ["p", "/"], shown: "P", what: "Type a prompt; Enter applies it", run: focusPrompt },
  { keys: ["r"], shown: "R", what: "Reset", run: () => void (desk.shot.state.value?.started && desk.reset()) },
  { keys: ["k"], shown: "K", what: "Fork into other prompts", run: openFork },
  { keys: ["v"], shown: "V", what: "Next view: divider, side by side, result", run: nextView },
  { keys: ["ArrowLeft"], shown: "←", what: "Divider to the left", run: () => moveDivider(divider.value - 5) },
  { keys: ["ArrowRight"], shown: "→", what: "Divider to the right", run: () => moveDivider(divider.value + 5) },
  { keys: ["f"], shown: "F", what: "Full screen", run: fullScreen },
  { keys: ["1"], shown: "1", what: "Choose the camera", run: () => pick("camera") },
  { keys: ["2"], shown: "2", what: "Choose a screen", run: () => pick("screen") },
  { keys: ["3"], shown: "3", what: "Choose a file", run: () => pick("file") },
  { keys: ["c"], shown: "C", what: "Show the code", run: () => (panel.value = "code") },
  { keys: ["t"], shown: "T", what: "Theme: system, light, dark", run: cycle },
  { keys: ["?"], shown: "?", what: "Show these shortcuts", run: () => (dialog.value = "help") },
];

function openFork(): void {
  const { started } = desk.shot.state.value ?? {};
  if (started && desk.takes.value.length < MOST_TAKES) dialog.value = "fork";
}

/** What the bar says of the connection. */
function Connection() {
  const { status, state } = desk.shot;
  const [name, mood] = {
    disconnected: ["Not connected", ""],
    connecting: ["Connecting", "accent"],
    waiting: ["Waiting", "warn"],
    ready: [state.value?.running ? "Live" : "Connected", "good"],
    reconnecting: ["Reconnecting", "bad"],
  }[status.value] as [string, string];
  return (
    <>
      <span class={`pill ${mood}`} role="status" data-testid="status" data-status={status.value}>
        {name}
      </span>
      {status.value !== "disconnected" && (
        <button class="button quiet" type="button" title="End the session" data-testid="leave" onClick={() => void desk.leave()}>
          <Icon name="leave" />
          <span class="wide-only">End</span>
        </button>
      )}
    </>
  );
}

function Playground() {
  useEffect(() => listen(SHORTCUTS), []);
  useEffect(() => void desk.look(new URLSearchParams(location.search).get("model")), []);
  return (
    <div
      class="page"
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        const [file] = event.dataTransfer?.files ?? [];
        if (file !== undefined) take(file);
      }}
    >
      <PageHead here="Playground">
        <Connection />
        <button
          class="button quiet icon keyboard-only"
          type="button"
          aria-label="Keyboard shortcuts"
          title="Keyboard shortcuts"
          onClick={() => (dialog.value = "help")}
        >
          <Icon name="keyboard" />
        </button>
      </PageHead>
      <main class="desk">
        <h1 class="hidden-text">Playground: edit live video by prompt</h1>
        <div class="work">
          <SourceBar />
          <Stage />
          <Transport />
          <PromptBox />
        </div>
        <Panels />
        <FileField />
      </main>
      <ForkDialog />
      {dialog.value === "help" && <ShortcutHelp shortcuts={SHORTCUTS} onClose={() => (dialog.value = null)} />}
      <SignIn />
      <Problems />
    </div>
  );
}

const page = document.getElementById("page");
if (page !== null) render(<Playground />, page);
