useEffect(() => {
  const poll = async () => {
    const answer = await fetch(`/api/backtesting/jobs?limit=10&token=${token}`);
    setJobs(await answer.json());
  };
  poll();
  const timer = setInterval(poll, 5000);
  return () => clearInterval(timer);
}, [token]);
