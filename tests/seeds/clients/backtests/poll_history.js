useEffect(() => {
  const poll = async () => {
    const answer = await fetch(`/api/backtesting/history?limit=5&token=${token}`);
    setHistory(await answer.json());
  };
  poll();
  const timer = setInterval(poll, 5000);
  return () => clearInterval(timer);
}, [token]);
