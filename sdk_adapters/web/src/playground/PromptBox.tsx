/** The prompt: typed or picked, and what else the model takes with it. */
import { desk } from "./desk";
import { PRESETS } from "./presets";

/** The service takes no more. */
const MOST_CHARACTERS = 2_000;

/** Puts the cursor into the prompt. */
export function focusPrompt(): void {
  const field = document.getElementById("prompt");
  if (field instanceof HTMLTextAreaElement) {
    field.focus();
    field.select();
  }
}

/** See above. */
export function PromptBox() {
  const { draft } = desk;
  const started = desk.shot.state.value?.started ?? false;
  const apply = () => void desk.apply();
  return (
    <section class="prompt card" aria-label="Prompt">
      <form
        class="prompt-form"
        onSubmit={(event) => {
          event.preventDefault();
          apply();
        }}
      >
        <label class="hidden-text" for="prompt">
          What to make of the picture
        </label>
        <textarea
          id="prompt"
          class="input"
          data-testid="prompt"
          rows={2}
          maxLength={MOST_CHARACTERS}
          placeholder="What to make of the picture, for example: a watercolour painting"
          value={draft.value}
          onInput={(event) => (draft.value = event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            apply();
          }}
        />
        <button
          class={desk.isEdited.value ? "button primary" : "button"}
          type="submit"
          data-testid="apply"
          disabled={!started || !desk.isEdited.value || draft.value.trim() === ""}
        >
          Apply
        </button>
      </form>
      <div class="presets" role="group" aria-label="Prompts to begin with">
        {PRESETS.map(({ name, prompt }) => (
          <button
            key={name}
            class="button chip"
            type="button"
            title={prompt}
            aria-pressed={draft.value.trim() === prompt}
            onClick={() => {
              draft.value = prompt;
              if (started) apply();
            }}
          >
            {name}
          </button>
        ))}
      </div>
      <Advanced />
    </section>
  );
}

/** What only some models take; nothing where the schema names nothing. */
function Advanced() {
  const { mostTransitionChunks, mostSeed } = desk.capability.value;
  if (mostTransitionChunks === 0 && mostSeed === 0) return null;
  const chunks = desk.transitionChunks;
  return (
    <details class="advanced">
      <summary>Advanced</summary>
      <div class="advanced-fields">
        {mostTransitionChunks > 0 && (
          <label class="field">
            <span>
              Transition:{" "}
              <output class="number">{chunks.value === 0 ? "at once" : `over ${chunks.value} chunks`}</output>
            </span>
            <input
              type="range"
              min={0}
              max={mostTransitionChunks}
              value={chunks.value}
              data-testid="transition"
              onInput={(event) => (chunks.value = event.currentTarget.valueAsNumber)}
            />
          </label>
        )}
        {mostSeed > 0 && (
          <label class="field">
            Seed of the next start
            <input
              class="input number"
              type="number"
              min={0}
              max={mostSeed}
              step={1}
              placeholder={String(desk.shot.state.value?.seed ?? 0)}
              value={desk.seed.value ?? ""}
              data-testid="seed"
              onInput={(event) => {
                const { value, validity, valueAsNumber } = event.currentTarget;
                desk.seed.value = value !== "" && validity.valid ? valueAsNumber : null;
              }}
            />
          </label>
        )}
      </div>
    </details>
  );
}
