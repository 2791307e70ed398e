// Sort by a column header; filter rows. Without JavaScript, the tables keep the order of the study.
const status = document.getElementById('sort-status');
for (const table of document.querySelectorAll('table')) {
  const body = table.tBodies[0];
  const first = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector('button').addEventListener('click', () => {
      const number = head.classList.contains('number');
      const now = head.getAttribute('aria-sort');
      // numbers start with the largest; a third click restores the order of the study
      const order = number ? ['descending', 'ascending', null] : ['ascending', 'descending', null];
      const next = order[(order.indexOf(now) + 1) % 3];
      heads.forEach((each) => each.removeAttribute('aria-sort'));
      if (next) head.setAttribute('aria-sort', next);
      const sign = next === 'descending' ? -1 : 1;
      const rows = [...first];
      if (next) {
        rows.sort((a, b) => {
          const [x, y] = [a.cells[column], b.cells[column]];
          if (!number) return sign * x.textContent.localeCompare(y.textContent, undefined, { numeric: true });
          const [v, w] = [x.dataset.value, y.dataset.value];
          if (v === undefined || w === undefined) return (v === undefined) - (w === undefined);
          return sign * (Number(v) - Number(w));
        });
      }
      body.append(...rows);
      status.textContent = next ? `sorted by ${head.textContent}, ${next}` : 'in the order of the study';
    });
  });
}
for (const search of document.querySelectorAll('input[type="search"]')) {
  search.addEventListener('input', () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of search.closest('section').querySelector('tbody').rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
