// Shows the values under the pointer. Without JavaScript the charts are complete, but do not react.
document.querySelectorAll('figure[data-chart]').forEach(function (figure) {
  var chart = JSON.parse(figure.dataset.chart), svg = figure.querySelector('svg');
  var tip = figure.appendChild(document.createElement('div')); tip.className = 'tip';
  var cursor = svg.appendChild(document.createElementNS('http://www.w3.org/2000/svg', 'line'));
  cursor.setAttribute('class', 'cursor'); cursor.setAttribute('y1', chart.top); cursor.setAttribute('y2', chart.bottom);
  function hide() { tip.style.display = 'none'; cursor.style.display = 'none'; } hide();
  svg.addEventListener('pointerleave', hide);
  svg.addEventListener('pointermove', function (event) {
    var box = svg.getBoundingClientRect(), frame = figure.getBoundingClientRect();
    var unit = box.width / chart.width, at = (event.clientX - box.left) / unit;
    var x = chart.x0 + (at - chart.left) / (chart.right - chart.left) * (chart.x1 - chart.x0), nearest = null;
    chart.series.forEach(function (s) { s.x.forEach(function (v) {
      if (nearest === null || Math.abs(v - x) < Math.abs(nearest - x)) nearest = v; }); });
    if (nearest === null) return;
    tip.textContent = chart.label + ' ' + nearest;
    chart.series.forEach(function (s) { var i = s.x.indexOf(nearest); if (i < 0) return;
      var row = tip.appendChild(document.createElement('div')); row.style.color = 'var(--c' + s.c + ')';
      row.textContent = s.name + ' ' + s.y[i]; });
    var place = chart.left + (nearest - chart.x0) / ((chart.x1 - chart.x0) || 1) * (chart.right - chart.left);
    cursor.setAttribute('x1', place); cursor.setAttribute('x2', place);
    tip.style.display = 'block'; cursor.style.display = '';
    var left = box.left - frame.left + place * unit + 10;
    if (left + tip.offsetWidth > frame.width) left -= tip.offsetWidth + 20;
    tip.style.left = Math.max(0, left) + 'px'; tip.style.top = (box.top - frame.top + 8) + 'px';
  });
});
