/** Touch: a song of the queue is liked by a swipe to the right and turned down by one to the left. */

const FAR = 64;

export function onSwipes(list, { like, skip, songOf }) {
  let start = null;

  const end = () => {
    if (start) start.item.style.transform = "";
    start = null;
  };

  list.addEventListener("touchstart", (event) => {
    const item = event.target.closest(".song");
    const [touch] = event.touches;
    if (item && event.touches.length === 1) start = { item, x: touch.clientX, y: touch.clientY };
    else end();
  }, { passive: true });

  list.addEventListener("touchmove", (event) => {
    if (!start) return;
    const [touch] = event.touches;
    const across = touch.clientX - start.x;
    const sideways = Math.abs(across) > 2 * Math.abs(touch.clientY - start.y);
    start.across = sideways ? across : 0;
    start.item.style.transform = sideways ? `translateX(${Math.max(-90, Math.min(90, across))}px)` : "";
  }, { passive: true });

  list.addEventListener("touchend", () => {
    const { item, across = 0 } = start ?? {};
    end();
    const song = item && songOf(item);
    if (song && across > FAR) like(song);
    else if (song && across < -FAR) skip(song);
  });
  list.addEventListener("touchcancel", end);
}
