// The sliders of threshold and prevalence: the numbers below them, and the charts that follow them.
addEventListener("DOMContentLoaded", () => {
  const of = id => document.getElementById(id);
  const points = JSON.parse(of("operating-points").textContent);
  const { tp, fp, positives, negatives, thresholds, prevalences } = points;
  // as Python rounds: a tie of three digits is an odd number of sixteenths, and goes to the even digit
  const rounded = value => {
    if (!Number.isInteger(value * 16) || (value * 16) % 2 === 0) return value.toFixed(3);
    const below = Math.floor(value * 1000);
    return ((below + below % 2) / 1000).toFixed(3);
  };
  const decimal = value => Number.isFinite(value) ? rounded(value).replace(/^0/, "") : "-";
  const count = value => value.toFixed(value < 10 ? 1 : 0);
  // Bayes' theorem in counts: each positive image stands for `weight` of them at the chosen prevalence.
  const weightAt = place => place === points.own_prevalence ? 1
    : prevalences[place] / (1 - prevalences[place]) * negatives / positives;
  const restyle = (chart, change, trace) => Plotly.restyle(chart, change, [trace]);

  const show = () => {
    const place = Number(of("threshold").value), weight = weightAt(Number(of("prevalence").value));
    const hits = weight * tp[place], alarms = fp[place], missed = weight * positives - hits;
    const all = weight * positives + negatives, cleared = negatives - alarms;
    const sensitivity = tp[place] / positives, specificity = cleared / negatives, ppv = hits / (hits + alarms);
    const values = {
      sensitivity: decimal(sensitivity), specificity: decimal(specificity),
      ppv: decimal(ppv), npv: decimal(cleared / (cleared + missed)),
      called: count(1000 * (hits + alarms) / all), alarms: count(1000 * alarms / all),
      missed: count(1000 * missed / all), "shown-threshold": points.shown[place],
      "shown-prevalence": points.shown_prevalences[of("prevalence").value],
    };
    for (const [id, value] of Object.entries(values)) of(id).textContent = value;
    const spoken = `sensitivity ${values.sensitivity}, specificity ${values.specificity}`;
    of("threshold").setAttribute("aria-valuetext", `${values["shown-threshold"]}: ${spoken}`);
    of("prevalence").setAttribute("aria-valuetext",
      `${values["shown-prevalence"]}: PPV ${values.ppv}, NPV ${values.npv}`);
    return { place, weight, sensitivity, specificity, ppv, share: weight * positives / all };
  };
  const move = () => {
    const { place, weight, sensitivity, specificity, ppv, share } = show();
    const precision = tp.map((hits, at) => hits + fp[at] ? weight * hits / (weight * hits + fp[at]) : null);
    restyle("roc", { x: [[1 - specificity]], y: [[sensitivity]] }, 2);
    restyle("precision-recall", { y: [[share, share]] }, 0);
    restyle("precision-recall", { y: [precision] }, 1);
    restyle("precision-recall", { x: [[sensitivity]], y: [[Number.isFinite(ppv) ? ppv : null]] }, 2);
    const [low, high] = of("scores").layout.xaxis.range;
    const p = thresholds[place], at = Math.min(high, Math.max(low, Math.log(p / (1 - p))));
    Plotly.relayout("scores", { "shapes[0].x0": at, "shapes[0].x1": at });
  };
  show();
  for (const id of ["threshold", "prevalence"]) of(id).addEventListener("input", move);
});
