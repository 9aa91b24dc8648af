// Before anything is drawn, so that a page in the other theme never flashes.
try {
  const theme = localStorage.getItem("agentkit.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's theme it is.
}
