/** The questions before a session is ended, or an actor is emptied. */
import { useEffect, useRef, useState } from "preact/hooks";
import { Dialog } from "../shared/Dialog";
import { report, reportError } from "../shared/problems";
import { asked } from "./asked";
import { begin } from "./drains";
import { counted } from "./format";
import { deviceOf } from "./hosts";
import { endSession } from "./http";
import { openSession, pool } from "./state";
import type { Actor } from "./wire";

/** The question that is asked now. */
export function Questions() {
  const question = asked.value;
  if (question === null) return null;
  return question.is === "kill" ? <Kill session={question.session} /> : <DrainQuestion actor={question.actor} />;
}

const close = () => {
  asked.value = null;
};

/** Returns what is given to the field that is to have the focus; else the dialog's first button has it. */
function useFocus() {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  return field;
}

/** Most characters of a reason. */
const REASON = 200;

function Kill({ session }: { session: string }) {
  const [reason, setReason] = useState("");
  const first = useFocus();
  const tenant = pool.sessions.get(session)?.tenant;
  const end = (event: SubmitEvent) => {
    event.preventDefault();
    close();
    endSession(session, reason.trim()).then(
      () => {
        report({ title: `Session ${session} has ended`, advice: "", note: true });
        if (openSession.peek() === session) openSession.value = "";
      },
      (error: unknown) => reportError(error),
    );
  };
  return (
    <Dialog title="End this session?" onClose={close}>
      <form class="question" onSubmit={end}>
        <p>
          <span class="mono break">{session}</span>
          {tenant && <> of {tenant}</>} ends for good. Its clients are disconnected and read the reason.
        </p>
        <label class="field">
          Reason
          <input
            class="input"
            name="reason"
            value={reason}
            maxLength={REASON}
            placeholder="ended by an operator"
            autocomplete="off"
            ref={first}
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        </label>
        <div class="dialog-foot">
          <button class="button" type="button" onClick={close}>
            Keep it
          </button>
          <button class="button danger filled" type="submit">
            End the session
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function DrainQuestion({ actor }: { actor: Actor }) {
  const [minutes, setMinutes] = useState<number | null>(null);
  const first = useFocus();
  const sessions = pool.placesOf(actor.id).taken;
  const start = (event: SubmitEvent) => {
    event.preventDefault();
    close();
    void begin(actor.id, sessions, minutes === null ? null : minutes * 60);
  };
  return (
    <Dialog title={`Drain ${deviceOf(actor)} of ${actor.host || actor.id}?`} onClose={close}>
      <form class="question" onSubmit={start}>
        <p>
          Its {counted(sessions, "session")} move to other actors without losing a frame, and no new ones come. Then its
          process ends.
        </p>
        <fieldset class="choices">
          <legend>Where there is no room elsewhere</legend>
          <label>
            <input ref={first} type="radio" name="grace" checked={minutes === null} onChange={() => setMinutes(null)} />
            Wait for room, however long that takes
          </label>
          <label>
            <input type="radio" name="grace" checked={minutes !== null} onChange={() => setMinutes(10)} />
            End after
            <input
              class="input minutes"
              type="number"
              aria-label="Minutes"
              min={1}
              max={1440}
              value={minutes ?? 10}
              disabled={minutes === null}
              onInput={(event) => setMinutes(Math.max(1, event.currentTarget.valueAsNumber || 1))}
            />
            minutes, and park who is left 20 s before
          </label>
        </fieldset>
        <div class="dialog-foot">
          <button class="button" type="button" onClick={close}>
            Cancel
          </button>
          <button class="button primary" type="submit">
            Drain it
          </button>
        </div>
      </form>
    </Dialog>
  );
}
