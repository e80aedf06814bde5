// Requests to the server. In each part of the page, a new request cancels the one before.
const open = {};

async function checked(answer) {
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}

export async function get(path) {
  return (await checked(await fetch(path))).json();
}

export function end(part) {
  open[part]?.abort();
}

// Draw: `show` gets each frame {num_steps, images} as it arrives, with images as bytes. Returns the last frame, or null
// if the request was cancelled.
export async function draw(part, path, words, show = () => {}) {
  end(part);
  const { signal } = (open[part] = new AbortController());
  try {
    const headers = { "Content-Type": "application/json" };
    const asked = { method: "POST", headers, body: JSON.stringify(words), signal };
    const answer = await checked(await fetch(path, asked));
    let last;
    for await (const line of lines(answer.body)) {
      const { num_steps, images, error } = JSON.parse(line);
      if (error) throw new Error(error);
      last = { num_steps, images: Uint8Array.from(atob(images), (byte) => byte.charCodeAt(0)) };
      show(last);
    }
    if (last?.num_steps !== 0) throw new Error("Drawing was interrupted; see the terminal of make play.");
    return last;
  } catch (error) {
    if (signal.aborted) return null;
    throw error instanceof TypeError ? new Error("The server does not answer; is make play still running?") : error;
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}
