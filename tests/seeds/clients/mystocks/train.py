"""Reports a training, epoch by epoch."""

from app.core.sse_manager import get_sse_broadcaster


async def train_model(model_data: object) -> None:
    broadcaster = get_sse_broadcaster()
    task_id = f"training-{uuid.uuid4()}"
    await broadcaster.send_training_progress(
        task_id=task_id, progress=0.0, status="started", message="begins", metrics={}
    )
    for epoch in range(100):
        loss, accuracy = train_epoch()
        await broadcaster.send_training_progress(
            task_id=task_id,
            progress=epoch + 1.0,
            status="running",
            message=f"epoch {epoch + 1}",
            metrics={"loss": loss, "accuracy": accuracy},
        )
    await broadcaster.send_training_progress(
        task_id=task_id,
        progress=100.0,
        status="completed",
        message="is complete",
        metrics={"final_loss": loss, "final_accuracy": accuracy},
    )
