"""Reports a VaR above its threshold."""

from app.core.sse_manager import get_sse_broadcaster


async def check_risk_limits(portfolio: object) -> None:
    measured, threshold = calculate_var(portfolio, confidence=0.95), 0.05
    if measured <= threshold:
        return
    await get_sse_broadcaster().send_risk_alert(
        alert_type="var_exceeded",
        severity="high",
        message=f"VaR exceeded threshold: {measured:.4f} > {threshold:.4f}",
        metric_name="var_95",
        metric_value=measured,
        threshold=threshold,
        entity_type="portfolio",
        entity_id=portfolio.id,
    )
