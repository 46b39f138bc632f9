/** Asks for the prompts of the takes. */
import { signal } from "@preact/signals";
import { Dialog } from "../shared/Dialog";
import { desk, MOST_TAKES } from "./desk";
import { PRESETS } from "./presets";
import { dialog } from "./view";

const typed = signal<readonly string[]>(PRESETS.slice(1, 3).map(({ prompt }) => prompt));

/** See above. */
export function ForkDialog() {
  if (dialog.value !== "fork") return null;
  const room = MOST_TAKES - desk.takes.value.length;
  const prompts = typed.value.slice(0, room);
  const close = () => (dialog.value = null);
  const set = (index: number, prompt: string) => (typed.value = prompts.map((each, at) => (at === index ? prompt : each)));
  return (
    <Dialog title="Fork the shot" onClose={close}>
      <form
        class="fork-form"
        onSubmit={(event) => {
          event.preventDefault();
          const wanted = prompts.map((each) => each.trim()).filter((each) => each !== "");
          if (wanted.length === 0) return;
          close();
          void desk.fork(wanted);
        }}
      >
        <p class="muted">The same shot from here on, with other prompts beside it. Each copy is a session of its own.</p>
        {prompts.map((prompt, index) => (
          <label key={index} class="field">
            Prompt {index + 1}
            <span class="fork-line">
              <input
                class="input"
                value={prompt}
                data-first={index === 0 || undefined}
                data-testid={`fork-prompt-${index + 1}`}
                onInput={(event) => set(index, event.currentTarget.value)}
              />
              {prompts.length > 1 && (
                <button
                  class="button"
                  type="button"
                  aria-label={`Remove prompt ${index + 1}`}
                  onClick={() => (typed.value = prompts.filter((_, at) => at !== index))}
                >
                  Remove
                </button>
              )}
            </span>
          </label>
        ))}
        <div class="dialog-foot">
          {prompts.length < room && (
            <button
              class="button"
              type="button"
              onClick={() => (typed.value = [...prompts, PRESETS[prompts.length + 1]?.prompt ?? ""])}
            >
              Add a prompt
            </button>
          )}
          <button class="button primary" type="submit" data-testid="fork-go">
            Fork into {prompts.length} {prompts.length === 1 ? "take" : "takes"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
