/** The operator console: starts the feed, and shows what it brings. */
import { effect } from "@preact/signals";
import { render } from "preact";
import "../shared/base.css";
import "./console.css";
import { wanted } from "../shared/credentials";
import { App } from "./App";
import { Feed, type Link } from "./feed";
import { begin } from "./frames";
import { ASKING } from "./http";
import { addressOf, chunks, clock, journal, link, openSession, pool, readAddress, view } from "./state";

wanted([{ type: "operator" }]);

const follow = () => {
  const { view: named, session } = readAddress(location.hash);
  view.value = named;
  openSession.value = session;
};
follow();
addEventListener("hashchange", follow);
effect(() => {
  const address = addressOf(view.value, openSession.value);
  if (address !== location.hash) history.replaceState(null, "", address);
});

const onLink = (state: Link) => {
  if (state.is !== link.peek().is || state.is !== "live") link.value = state;
};
const feed = new Feed(ASKING, { pool, journal, chunks, clock, onLink });
void feed.run(new AbortController().signal);
begin();
render(<App />, document.getElementById("page") as HTMLElement);
