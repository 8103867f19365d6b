// Airflow has a switch of its own for light and dark; without a choice there, the system's decides.
(() => {
  const own = document.documentElement.style;
  if (window.parent === window) {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") own.colorScheme = chosen;
    return;
  }
  const airflow = window.parent.document.documentElement;
  const follow = () => { own.colorScheme = airflow.style.colorScheme; };
  follow();
  new MutationObserver(follow).observe(airflow, {attributes: true, attributeFilter: ["style"]});
})();
